"""Archs in the notations they were published in: NAS-Bench-201's strings and DARTS's genotypes."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from sartor.errors import InputError
from sartor.records import Arch, Option
from sartor.space.cell import nas_bench_201
from sartor.space.two_input import CELLS, darts_space, plan

_NB201 = re.compile(r"\|(\w+~0)\|\+\|(\w+~0)\|(\w+~1)\|\+\|(\w+~0)\|(\w+~1)\|(\w+~2)\|")
_LONGEST = 10_000
"""Characters of the longest text that is parsed: Python's parser is for short ones."""


def nb201_string(arch: Mapping[str, Option]) -> str:
    """``|nor_conv_3x3~0|+|none~0|skip_connect~1|+|…|``: a group a node, operators with the node they start from."""
    cell = nas_bench_201()
    operators = dict(zip(cell.edges, (str(arch[choice.name]) for choice in cell.choices), strict=True))
    groups = ("".join(f"|{operators[start, to]}~{start}" for start in range(to)) for to in range(1, 4))
    return "+".join(f"{group}|" for group in groups)


def parse_nb201(text: str) -> Arch:
    """The arch of :func:`sartor.space.cell.nas_bench_201` that ``text`` names. Raises InputError for anything else."""
    found = _NB201.fullmatch(text.strip()) if isinstance(text, str) and len(text) <= _LONGEST else None
    if found is None:
        raise InputError(f"{str(text)[:80]!r} is no NAS-Bench-201 string: |op~0|+|op~0|op~1|+|op~0|op~1|op~2|")
    return nas_bench_201().canonical({f"edge{i}": group.partition("~")[0] for i, group in enumerate(found.groups())})


def nb201_topology(arch: Mapping[str, Option]) -> str:
    """The string by which the benchmark's authors tell cells apart: there are 6,466 (arXiv:2001.00326 §2.1).

    It keeps absent operators as terms and the order in which skipped sums came, so that it tells some cells apart that
    compute the same: ``Cell.expression`` does not.
    """
    cell = nas_bench_201()
    operators = dict(zip(cell.edges, (str(arch[choice.name]) for choice in cell.choices), strict=True))
    nodes = ["0"]
    for node in range(1, 4):
        terms = []
        for start in range(node):
            operator, heard = operators[start, node], nodes[start]
            kept = heard if operator == cell.identity else f"({heard})@{operator}"
            terms.append("#" if operator == cell.absent or heard == "#" else kept)
        nodes.append("+".join(sorted(terms)))
    return nodes[-1]


def genotype(arch: Mapping[str, Option]) -> str:
    """DARTS's notation of an arch of :func:`sartor.space.two_input.darts_space`, each node's earlier input first."""
    parts = []
    for cell in CELLS:
        planned = plan(arch, cell)
        pairs = [
            pair for step in planned.steps for pair in zip(step.operators, step.inputs, strict=True)
        ]  # (operator, state), as DARTS has them
        parts += [f"{cell}={pairs!r}", f"{cell}_concat={list(planned.concat)!r}"]
    return f"Genotype({', '.join(parts)})"


def parse_genotype(text: str) -> Arch:
    """The arch that ``Genotype(normal=[('sep_conv_3x3', 1), …], normal_concat=…, reduce=[…], reduce_concat=…)`` names.

    Nothing is run: the text must be that call, with literals for arguments. Raises InputError where it is not, where a
    node hears one state twice, or where the output is not all nodes: then it is not of DARTS's space.
    """
    given = _call(text)
    options: dict[str, Option] = {}
    sizes = set()
    for cell in CELLS:
        pairs = given.get(cell)
        if not isinstance(pairs, (list, tuple)) or not pairs or len(pairs) % 2 or not all(_is_pair(p) for p in pairs):
            raise InputError(f"a genotype's {cell} is a list of two pairs (operator, state) a node")
        nodes = len(pairs) // 2
        sizes.add(nodes)
        every = range(2, nodes + 2)
        concat = given.get(f"{cell}_concat", every)
        if concat not in (every, list(every), tuple(every)):  # never a list of a range, which may be of any length
            raise InputError(f"{cell}_concat must be all nodes, 2 to {nodes + 1}, for DARTS's space")
        for node in range(nodes):
            (first, a), (second, b) = sorted(pairs[2 * node : 2 * node + 2], key=lambda pair: int(pair[1]))
            options |= {f"{cell}.{node}.inputs": f"{a},{b}", f"{cell}.{node}.op0": first, f"{cell}.{node}.op1": second}
    if len(sizes) > 1:
        raise InputError("a genotype's normal and reduce cells have as many nodes")
    return darts_space(nodes=sizes.pop(), none=True).canonical(options)


def _call(text: str) -> dict[str, Any]:
    """The keyword arguments of the one call that ``text`` is, literals all."""
    wrong = InputError(f"{str(text)[:80]!r} is no genotype: Genotype(normal=[('sep_conv_3x3', 0), …], reduce=[…])")
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise wrong
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.func.id != "Genotype":
            raise wrong
        if call.args or any(keyword.arg is None for keyword in call.keywords):
            raise wrong
        return {str(keyword.arg): _literal(keyword.value) for keyword in call.keywords}
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError) as error:
        raise wrong from error


def _literal(node: ast.expr) -> Any:
    """A literal, or ``range(a, b)``, which the published genotypes write for the concatenated nodes."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range" and not node.keywords:
        return range(*(ast.literal_eval(argument) for argument in node.args))
    return ast.literal_eval(node)


def _is_pair(pair: object) -> bool:
    """An operator and a state's number."""
    return isinstance(pair, (list, tuple)) and len(pair) == 2 and isinstance(pair[0], str) and type(pair[1]) is int
