"""Imports point one way, as the line in docs/design.md says; what is imported is declared; torch is not too early."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src"


@cache
def layers() -> dict[str, int]:
    """Top-level name → its place, read from the one line of the design that has the arrows."""
    design = (ROOT / "docs" / "design.md").read_text()
    line = next(line for line in design.splitlines() if line.startswith("errors, ") and "→" in line)
    return {name.strip(): place for place, group in enumerate(line.split("→")) for name in group.split(",")}


@cache
def modules() -> dict[str, Path]:
    """Dotted module name → file, for all of src/sartor."""
    found = {}
    for file in sorted(SOURCE.rglob("*.py")):
        parts = file.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imports(file: Path, *, typing_too: bool = True) -> Iterator[str]:
    """Every module a file imports, anywhere in it: at the top, inside functions, and for types only unless left out."""

    def visit(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.If) and not typing_too and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import; write the full name"
            # `from sartor.space import presets` may name a module or an attribute: report the longest that is a module.
            for alias in node.names:
                dotted = f"{node.module}.{alias.name}"
                yield dotted if dotted in modules() else str(node.module)
        for child in ast.iter_child_nodes(node):
            yield from visit(child)

    yield from visit(ast.parse(file.read_text()))


def top(module: str) -> str:
    """``sartor.space.presets`` → ``space``."""
    return module.split(".")[1] if "." in module else ""


def test_every_module_has_a_layer() -> None:
    assert {top(name) for name in modules()} - {""} <= set(layers())


@pytest.mark.parametrize("name", [name for name in modules() if name != "sartor"])
def test_imports_point_one_way(name: str) -> None:
    """Left never imports right. (The root ``sartor`` imports lazily from everywhere: it is the door, not a layer.)"""
    place = layers()
    for imported in imports(modules()[name]):
        if imported.startswith("sartor."):
            assert place[top(imported)] <= place[top(name)], f"{name} imports {imported}, which stands to its right"


def test_no_cycles() -> None:
    graph = {
        name: {m for m in imports(file, typing_too=False) if m.startswith("sartor.")}
        for name, file in modules().items()
        if name != "sartor"
    }
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the modules of the cycle


def test_third_party_imports_are_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [*project["dependencies"], *project["optional-dependencies"]["pandas"]]
    declared = {re.split(r"[^\w.-]", r)[0].lower().replace("_", "-") for r in requirements}
    # torchvision comes with timm; it is imported only to mend its operators beside a CPU build of torch.
    declared |= {"sartor", "torchvision"}
    distributions = packages_distributions()
    for name, file in modules().items():
        for imported in {i.split(".")[0] for i in imports(file)} - set(sys.stdlib_module_names):
            owners = {owner.lower().replace("_", "-") for owner in distributions.get(imported, [imported])}
            assert owners & declared, f"{name} imports {imported}, which pyproject.toml does not declare"


@pytest.mark.parametrize("statement", ["import sartor", "import sartor.cli", "import sartor.space, sartor.records"])
def test_torch_is_not_imported_early(statement: str) -> None:
    check = (
        f"{statement}\nimport sys\nprint([m for m in ('torch', 'timm', 'onnx', 'rich', 'scipy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_every_public_name_loads() -> None:
    import sartor

    for name in sartor.__all__:
        assert getattr(sartor, name) is not None
    with pytest.raises(AttributeError, match="open_run"):
        _ = sartor.no_such_name
