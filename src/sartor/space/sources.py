"""A space without choices: whatever source code there is that defines one of some classes."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sartor.errors import InputError
from sartor.records import Arch, Option
from sartor.space.choice import Choice
from sartor.space.space import Space

LONGEST = 100_000
"""Characters of a source: a module of a network is a few thousand."""


@dataclass(frozen=True)
class Sources(Space):
    """Archs ``{"source": code, "parent": key}``: Python that defines a class called one of ``classes``. ``parent`` is
    the key of the arch that it was made from, and absent of the first.

    Nothing is drawn from it and nothing is counted: who searches it writes. Code is parsed here and never run.
    """

    choices: tuple[Choice, ...] = ()
    classes: tuple[str, ...] = ("Mixer",)

    def canonical(self, options: Mapping[str, Option]) -> Arch:
        """The arch of ``options``. Raises InputError where its source is none, in one line that says why."""
        source, parent = options.get("source"), options.get("parent", "")
        if not isinstance(source, str) or not isinstance(parent, str):
            raise InputError("an arch of this space has the text of its source, and the key of its parent")
        if not set(self.classes) & set(classes_of(source)):
            raise InputError(f"the source defines no class {' or '.join(self.classes)}")
        return Arch({"source": source, **({"parent": parent} if parent else {})})

    def decide(self, pick: Callable[[Choice], Option]) -> Arch:
        raise InputError("sources are not drawn: take a strategy that writes them, such as asi_arch")

    def count(self) -> int:
        raise InputError("sources have no number")


def classes_of(source: str) -> list[str]:
    """The classes that ``source`` defines at its top. Raises InputError as :func:`parsed` does."""
    return [node.name for node in parsed(source).body if isinstance(node, ast.ClassDef)]


def parsed(source: str) -> ast.Module:
    """The tree of ``source``. Raises InputError where it is no Python, or longer than code of a module is."""
    if len(source) > LONGEST:
        raise InputError(f"the source has {len(source):,} characters: {LONGEST:,} are the most")
    try:
        return ast.parse(source)
    except SyntaxError as error:
        raise InputError(f"the source is no Python: {error.msg}, line {error.lineno}") from error
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes, brackets without end
        raise InputError(f"the source is no Python: {type(error).__name__}") from error


def normalised(source: str, keep: tuple[str, ...] = ("forward", "Mixer", "Block")) -> str:
    """What ``source`` says, whatever it calls things: two sources are one where this is the same.

    Comments, docstrings, annotations and formatting are gone; what the source itself names (variables, arguments,
    functions, classes, attributes that it sets) is numbered in the order in which it comes, but for ``keep`` and names
    between double underscores. Raises InputError where it is no Python.
    """
    tree = _bare(parsed(source))
    names = {name: f"·{i}" for i, name in enumerate(_own(tree, keep))}
    for node in ast.walk(tree):
        for field in ("id", "name", "attr", "arg"):
            held = getattr(node, field, None)
            if isinstance(held, str) and held in names and not isinstance(node, ast.alias):
                setattr(node, field, names[held])
    return ast.dump(tree)


def _bare(tree: ast.Module) -> ast.Module:
    """Without docstrings and annotations, which nothing computes with."""
    for node in ast.walk(tree):
        body: list[ast.stmt] | None = getattr(node, "body", None)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and body:
            first = body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                del body[0]
        for field in ("returns", "annotation"):
            if hasattr(node, field) and not isinstance(node, ast.AnnAssign):
                setattr(node, field, None)
    return _Unannotated().visit(tree)


class _Unannotated(ast.NodeTransformer):
    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        if node.value is None:
            return None
        return ast.copy_location(ast.Assign([node.target], node.value), node)


def _own(tree: ast.Module, keep: tuple[str, ...]) -> list[str]:
    """The names that the source gives, in the order in which the tree has them."""
    found: dict[str, None] = {}
    for node in ast.walk(tree):
        name = None
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            name = node.name
        elif isinstance(node, ast.arg):
            name = node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            name = node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            name = node.attr
        if name and name not in keep and not (name.startswith("__") and name.endswith("__")):
            found.setdefault(name)
    return list(found)
