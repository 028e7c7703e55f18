"""``build_recurrent(arch)``: a language model whose memory is the cell an arch describes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sartor.errors import InputError
from sartor.records import Option

_ACTIVATIONS = {"identity": lambda x: x, "relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh}


class RecurrentCell(nn.Module):
    """Node 0 mixes the input and the state before; node i goes on from a node before it; the new state is the mean of
    nodes 1 and up. Each step is gated: s + σ(c) · (act(h) − s). [b, t, width] → states [b, t, width], from zeros."""

    def __init__(self, arch: Mapping[str, Option], width: int):
        super().__init__()
        self.start = nn.Linear(2 * width, 2 * width, bias=False)
        self.parents: list[int] = []
        self.activations: list[str] = []
        while f"{len(self.parents) + 1}.op" in arch:
            node = len(self.parents) + 1
            self.parents.append(int(arch[f"{node}.from"]))
            self.activations.append(str(arch[f"{node}.op"]))
        if not self.parents:
            raise InputError("the arch has no recurrent cell: give one of recurrent_space")
        self.steps = nn.ModuleList(nn.Linear(width, 2 * width, bias=False) for _ in self.parents)

    def forward(self, x: Tensor) -> Tensor:
        state, states = torch.zeros_like(x[:, 0]), []
        for t in range(x.shape[1]):
            gate, candidate = self.start(torch.cat([x[:, t], state], dim=1)).chunk(2, dim=1)
            nodes = [state + gate.sigmoid() * (candidate.tanh() - state)]
            for parent, activation, step in zip(self.parents, self.activations, self.steps, strict=True):
                held = nodes[parent]
                gate, candidate = step(held).chunk(2, dim=1)
                nodes.append(held + gate.sigmoid() * (_ACTIVATIONS[activation](candidate) - held))
            state = torch.stack(nodes[1:]).mean(0)
            states.append(state)
        return torch.stack(states, dim=1)


class LanguageModel(nn.Module):
    """Embedding, cell, a score for each word. Tokens [b, t] → logits [b, t, words]."""

    def __init__(self, embed: nn.Module, memory: nn.Module, out: nn.Module):
        super().__init__()
        self.embed = embed
        self.memory = memory
        self.out = out

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.memory(self.embed(tokens)))


def build_recurrent(arch: Mapping[str, Option], *, words: int, width: int = 64) -> LanguageModel:
    """A language model of ``words`` with the cell of ``arch`` (of :func:`sartor.space.recurrent.recurrent_space`) and
    fresh weights, PyTorch's. Liu et al., arXiv:1806.09055 §3.1.2. Deviation: neither dropout nor batch norm nor tied
    embeddings, which are parts of that paper's training.
    """
    if words < 1 or width < 1:
        raise InputError(f"words and width are 1 or more, not {words} and {width}")
    return LanguageModel(nn.Embedding(words, width), RecurrentCell(arch, width), nn.Linear(width, words))
