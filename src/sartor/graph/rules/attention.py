"""Attention as one operator."""

from __future__ import annotations

from sartor.graph.atoms import Atoms
from sartor.graph.call import Call, Dims
from sartor.graph.rules.elementwise import broadcast


def scaled_dot_product_attention(atoms: Atoms, call: Call) -> Dims:
    """q [..., l, e], k [..., s, e], v [..., s, d] → [..., l, d].

    Without an explicit scale, the products are divided by the root of ``e``, which a cut would change: frozen. With
    grouped queries, each head of k and v serves several of q: they go together.
    """
    q, k, v, mask = call["query"], call["key"], call["value"], call["attn_mask"]
    why = call.why
    if call["scale"] is None:
        for value in (q, k):
            atoms.freeze(value.dims[-1], f"{why}: its scale follows the channels of a head")
    if call["is_causal"]:
        for value in (q, k):
            atoms.freeze(value.dims[-2], f"{why}: which tokens come before is told by their number")
    atoms.unify(q.dims[-1], k.dims[-1], why)
    atoms.unify(k.dims[-2], v.dims[-2], why)
    heads = [list(value.dims[:-2]) for value in (q, k, v)]
    if call["enable_gqa"] and len(heads[0][-1]) != len(heads[1][-1]):
        times = len(heads[0][-1]) // len(heads[1][-1])
        shared, queries = atoms.split(heads[0][-1], (len(heads[1][-1]), times), why)
        atoms.freeze(queries, f"{why}: every head of keys serves as many of queries")
        for other in heads[1:]:
            atoms.unify(shared, other[-1], why)
            other[-1] = heads[0][-1]
    shape = tuple(max(sizes) for sizes in zip(*([len(label) for label in h] for h in heads), strict=True))
    batch = broadcast(atoms, [tuple(h) for h in heads], shape, why)
    if mask is not None:
        full = (*batch, q.dims[-2], k.dims[-2])
        broadcast(atoms, [full, mask.dims], tuple(len(label) for label in full), why)
    return (*batch, q.dims[-2], v.dims[-1])


RULES = {"aten.scaled_dot_product_attention.default": scaled_dot_product_attention}
