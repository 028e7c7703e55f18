"""What the source of a part may say: looked at before anything runs.

Not a proof of anything: see the package.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from sartor.errors import InputError
from sartor.space.sources import parsed

IMPORTS = ("__future__", "collections", "dataclasses", "functools", "itertools", "math", "torch", "typing")
"""Modules that a source may import, with what is in them."""

NAMES = frozenset(
    "__import__ breakpoint compile delattr eval exec exit globals input locals open quit vars".split()  # noqa: SIM905
)

TORCH = frozenset(
    "_C _dynamo _inductor classes compile cpp_extension cuda distributed from_file hub jit library load "  # noqa: SIM905
    "manual_seed multiprocessing ops package random save seed serialization set_default_device set_default_dtype "
    "set_num_interop_threads set_num_threads set_rng_state use_deterministic_algorithms".split()
)
"""Of torch what files, other processes, compilers and the whole process's settings are reached by."""

DUNDER = ("__init__", "__name__", "__call__", "__len__", "__getitem__", "__post_init__", "__all__")


def read(source: str) -> None:
    """Raises InputError with the first thing in ``source`` that no part of a network needs."""
    for node in ast.walk(parsed(source)):
        where = f"line {getattr(node, 'lineno', '?')}: a part of a network does not need it"
        for said in _said(node):
            top, *rest = said.split(".")
            if isinstance(node, (ast.Import, ast.ImportFrom)) and top not in IMPORTS:
                raise InputError(f"it imports {said}: a part needs {', '.join(IMPORTS)} at most")
            if top == "torch" and TORCH & set(rest):
                raise InputError(f"it uses {said}, {where}")
        if isinstance(node, ast.Name) and node.id in NAMES:
            raise InputError(f"it uses {node.id}, {where}")
        name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
        if name.startswith("__") and name.endswith("__") and name not in DUNDER:
            raise InputError(f"it uses {name}, {where}")


def _said(node: ast.AST) -> Iterator[str]:
    """Dotted names that a node imports or follows from one."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Attribute) and isinstance(node.value, (ast.Name, ast.Attribute)):
        yield ast.unparse(node)
