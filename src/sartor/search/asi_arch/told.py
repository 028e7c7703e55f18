"""What the model is told, and what is read from what it answers."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sartor.errors import InputError
from sartor.records import Arch, Record
from sartor.space.sources import Sources, normalised

FENCED = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)```", re.DOTALL)

RULES = """Write one module of a causal language model in PyTorch: `class Mixer(torch.nn.Module)`, which mixes tokens
(it is normalised before, added to its input, and followed by a feed-forward part), or `class Block(torch.nn.Module)`,
which is a whole layer. `__init__(self, width)` makes it; `forward(self, x)` takes [batch, tokens, width] and gives the
same. It must hold for any batch and any number of tokens, no token may see a later one, examples must not see each
other, nothing may be remembered between calls, and the cost must grow no faster than tokens times their logarithm.
Import nothing but torch, math and Python's own containers."""
"""What :mod:`sartor.recipes.mixers` holds code to."""


def proposal(
    task: str,
    parent: Record,
    references: Sequence[Record],
    lines: dict[str, str],
    known: Sequence[str],
    wrong: Sequence[str],
) -> str:
    """The prompt for a new network: the parent with its code, others by what they came to, what is known."""
    parts = [task.strip(), f"This is to be improved:\n{lines[parent.name]}\n{_code(parent.arch)}"]
    if references:
        parts.append("Others that were tried:\n" + "\n".join(lines[record.name] for record in references))
    if known:
        parts.append("What is known:\n" + "\n".join(f"- {note}" for note in known))
    parts.append("Say first, in the docstring at the top of the code, what you change and why it should help.")
    return _ended(parts, wrong)


def mending(task: str, failed: Record, wrong: Sequence[str]) -> str:
    """The prompt after code that could not be used: what it was and what was wrong with it."""
    reason = failed.provenance.get("failed", "it could not be measured")
    return _ended([task.strip(), f"This could not be used: {reason}\n{_code(failed.arch)}\nMend it."], wrong)


def analysis(record: Record, line: str, beside: Sequence[str]) -> str:
    """The prompt for what is to be learnt of a network that was measured, beside its parent and its parent's others."""
    parts = [f"This was tried:\n{line}\n{_code(record.arch)}"]
    if beside:
        parts.append("Beside it stand its parent and what else was made of that:\n" + "\n".join(beside))
    parts.append("In three sentences: what in the code made the difference, and what follows for the next?")
    return "\n\n".join(parts)


def judgement(record: Record, line: str, first: str) -> str:
    """The prompt for a score of 1 to 10."""
    return "\n\n".join(
        [
            f"Judge this network:\n{line}\n{_code(record.arch)}",
            f"It is measured against this one, which has 5 of 10:\n{first}",
            "How new is it, how simple for what it does, is the code right, does it converge? End your answer with a "
            "line `score: N`, N from 1 to 10.",
        ]
    )


def told(record: Record, said: str = "") -> str:
    """One network in a line or two: what it came to, and what was said of it."""
    values = ", ".join(f"{name} {value:.5g}" for name, value in record.metrics.items())
    line = f"- {record.name}: {values or record.provenance.get('failed', 'could not be measured')}"
    return f"{line}\n  {' '.join(said.split())}" if said else line


def score(answer: str) -> float | None:
    """The last ``score: N`` of an answer, or None where there is none from 1 to 10."""
    found = re.findall(r"score\W{0,4}(\d+(?:\.\d+)?)", answer, re.IGNORECASE)
    value = float(found[-1][:8]) if found else 0.0
    return value if 1 <= value <= 10 else None


def code_of(answer: str, space: Sources, parent: str, seen: set[str]) -> tuple[Arch | None, str]:
    """The arch of the last fenced code in ``answer``, or None and what is wrong. ``seen``: normalised sources."""
    blocks = FENCED.findall(answer)
    if not blocks:
        return None, "the answer has no code between ``` and ```"
    try:
        arch = space.canonical({"source": blocks[-1].strip() + "\n", "parent": parent})
        if normalised(str(arch["source"])) in seen:
            return None, "this code was tried before: only names, comments or formatting differ"
    except InputError as error:
        return None, str(error)
    return arch, ""


def _code(arch: Arch) -> str:
    return f"```python\n{str(arch['source']).rstrip()}\n```"


def _ended(parts: Sequence[str], wrong: Sequence[str]) -> str:
    refused = ["Of your last answers these could not be used:\n" + "\n".join(f"- {w}" for w in wrong)] if wrong else []
    end = "End your answer with the whole code between ```python and ```, and nothing after it."
    return "\n\n".join([RULES, *(part for part in parts if part), *refused, end])
