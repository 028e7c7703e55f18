"""Any network as a supernet over its own weights: every group a choice of width, every block that can go a choice."""

from __future__ import annotations

import copy
import random
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sartor.errors import InputError
from sartor.graph import Cut, Graph, trace
from sartor.graph.capture import Inputs
from sartor.graph.gates import skippable
from sartor.graph.groups import matches, protected
from sartor.graph.replace import replace
from sartor.graph.saliency import Evidence, Saliency, l2
from sartor.models.kernels import crop_kernels, croppable, cropped
from sartor.models.supernet import resize
from sartor.records import Arch
from sartor.space import Choice, Space

_SKELETONS = 64
"""Cut networks without storage, and the indices of cuts, that are kept ready."""


class Elastic(nn.Module):
    """A network whose parameters serve every arch of ``space``. ``forward(x, arch)`` runs the cut network of ``arch``
    on slices of them, so that ``extract`` is exact by construction and gradients flow into the shared tensors; the
    largest arch is the network itself, at its own price. The state dict holds the ``orders`` of the entries too: which
    of them come first was decided by other weights than those that training leaves.

    Choices: ``GROUP.keep`` (how many entries, the most important first), ``BLOCK.depth`` (0 or 1: whether a block is
    there), ``LAYER.kernel`` (the side of the middle of its kernels), and ``resolution`` where it was asked for.
    """

    orders: Tensor

    def __init__(self, graph: Graph, space: Space, orders: Mapping[str, Sequence[int]]):
        super().__init__()
        self.space = space
        self.largest = space.largest()
        self.model = graph.model
        self.training = graph.model.training
        self.graph = graph
        self._sizes = {name: len(order) for name, order in orders.items()}
        self.register_buffer("orders", torch.tensor([i for order in orders.values() for i in order], dtype=torch.int64))
        self._skeletons: OrderedDict[tuple[tuple[str, Any], ...], nn.Module] = OrderedDict()
        self._cuts: OrderedDict[tuple[tuple[str, Any], ...], dict[str, tuple[Tensor | None, ...]]] = OrderedDict()
        self.register_load_state_dict_post_hook(lambda module, _: module._forget())

    def forward(self, x: Any, arch: Arch | None = None) -> Any:
        """What ``arch`` (the largest where none is given) says of ``x``."""
        arch = arch or self.largest
        if "resolution" in arch:
            x = resize(x, int(arch["resolution"]))
        if all(arch[name] == value for name, value in self.largest.items() if name != "resolution"):
            return self.model(x)
        skeleton = self._skeleton(arch)
        skeleton.train(self.training)
        return functional_call(skeleton, self.sliced(arch), (x,))

    def cut(self, arch: Arch) -> Cut:
        """The most important entries of each group, as many as ``arch`` keeps (:meth:`Graph.completed`)."""
        orders = {name: order.tolist() for name, order in self._order_by_group().items()}
        sizes = {name: int(arch.get(f"{name}.keep", len(order))) for name, order in orders.items()}
        keep = {name: sorted(order[: sizes[name]]) for name, order in orders.items() if sizes[name] < len(order)}
        return self.graph.completed(keep, orders)

    def _indices(self, arch: Arch) -> dict[str, tuple[Tensor | None, ...]]:
        """Of :meth:`Graph.indices`, kept: a step of training asks for the same few archs again and again."""
        key = _key(arch)
        if key not in self._cuts:
            self._cuts[key] = self.graph.indices(self.cut(arch))
            if len(self._cuts) > _SKELETONS:
                self._cuts.popitem(last=False)
        self._cuts.move_to_end(key)
        return self._cuts[key]

    def reorder(self, orders: Mapping[str, Sequence[int]]) -> None:
        """Other orders of the groups' entries, the most important first. Raises InputError for what is none."""
        new = {**self._order_by_group(), **{name: torch.as_tensor(order) for name, order in orders.items()}}
        for name, order in new.items():
            if name not in self._sizes or order.sort().values.tolist() != list(range(self._sizes[name])):
                raise InputError(f"the order of {name!r} does not name each of its entries once")
        self.orders.copy_(torch.cat([new[name] for name in self._sizes]))
        self._forget()

    def _order_by_group(self) -> dict[str, Tensor]:
        return dict(zip(self._sizes, self.orders.split(list(self._sizes.values())), strict=True))

    def removed(self, arch: Arch) -> tuple[str, ...]:
        """Paths of the blocks that ``arch`` leaves out."""
        return tuple(
            name.removesuffix(".depth") for name, value in arch.items() if name.endswith(".depth") and not value
        )

    def kernels(self, arch: Arch) -> dict[str, int]:
        """Sides of the kernels that ``arch`` crops, by the paths of their layers."""
        sides = {name: int(value) for name, value in arch.items() if name.endswith(".kernel")}
        return {name.removesuffix(".kernel"): k for name, k in sides.items() if k < int(self.largest[name])}

    def sliced(self, arch: Arch) -> dict[str, Tensor]:
        """The shared tensors in the shapes of ``arch``'s network, by name. Gradients flow through them."""
        gone = self.removed(arch)
        shared: dict[str, Tensor] = {
            **dict(self.model.named_parameters(remove_duplicate=False)),
            **dict(self.model.named_buffers(remove_duplicate=False)),
        }
        done: dict[int, Tensor] = {}  # tied tensors stay one
        indices = self._indices(arch)
        sides = {f"{path}.weight": side for path, side in self.kernels(arch).items()}
        state = {}
        for name, tensor in shared.items():
            if any(name.startswith(f"{path}.") for path in gone):
                continue
            if id(tensor) not in done:
                part = tensor
                for dim, index in enumerate(indices.get(name, ())):
                    if index is not None:
                        part = part.index_select(dim, index.to(part.device))
                part = cropped(part, sides[name]) if name in sides else part
                is_statistic = not isinstance(tensor, nn.Parameter)
                done[id(tensor)] = part.clone() if is_statistic and self.training and part is tensor else part
            state[name] = done[id(tensor)]
        return state

    def extract(self, arch: Arch) -> nn.Module:
        """The plain network of ``arch`` with its own copy of its weights, in this supernet's mode."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # torch's own, of how it copies graphs
            network = copy.deepcopy(self._skeleton(arch))
        copies: dict[int, Tensor] = {}
        for name, tensor in self.sliced(arch).items():
            owner, _, own = name.rpartition(".")
            holder = network.get_submodule(owner)
            if id(tensor) not in copies:
                data = tensor.detach().clone()
                old = holder._parameters.get(own)
                copies[id(tensor)] = data if old is None else nn.Parameter(data, old.requires_grad)
            (holder._parameters if own in holder._parameters else holder._buffers)[own] = copies[id(tensor)]  # type: ignore[assignment]
        return network.train(self.training)

    def builder(self, arch: Arch) -> nn.Module:
        """The plain network of ``arch`` without weights."""
        return self._skeleton(arch)

    def _skeleton(self, arch: Arch) -> nn.Module:
        key = _key(arch)
        if key not in self._skeletons:
            network = self.graph.slice(self.cut(arch))
            if isinstance(network, torch.fx.GraphModule) and (self.removed(arch) or self.kernels(arch)):
                raise InputError(f"{arch.to_json()} is a graph without the modules that it would change")
            for path in self.removed(arch):
                replace(network, path, nn.Identity())
            gone = tuple(f"{path}." for path in self.removed(arch))
            crop_kernels(network, {p: k for p, k in self.kernels(arch).items() if not f"{p}.".startswith(gone)})
            self._skeletons[key] = network.to("meta")
            if len(self._skeletons) > _SKELETONS:
                self._skeletons.popitem(last=False)
        self._skeletons.move_to_end(key)
        return self._skeletons[key]

    def _forget(self) -> None:
        """Other orders were loaded: what was cut by the old ones is of no use."""
        self._skeletons.clear()
        self._cuts.clear()

    def _apply(self, fn, recurse=True):  # type: ignore[no-untyped-def]
        # Skeletons live on the meta device and never hold weights: moving the supernet must not touch them.
        return super()._apply(fn, recurse)

    def __deepcopy__(self, memo):  # type: ignore[no-untyped-def]
        twin = Elastic(self.graph, self.space, {n: order.tolist() for n, order in self._order_by_group().items()})
        twin.model = copy.deepcopy(self.model, memo)
        return twin.train(self.training)


def _key(arch: Arch) -> tuple[tuple[str, Any], ...]:
    """What tells cut networks apart."""
    return tuple((name, value) for name, value in arch.items() if name != "resolution")


def _uneven(graph: Graph, n: int = 3) -> list[Cut]:
    """Cuts that leave another share of each group: code that halves its channels works for equal ones."""
    draw = random.Random(0)
    return [
        graph.completed({g.name: draw.sample(range(g.size), draw.randint(1, g.size)) for g in graph.groups})
        for _ in range(n)
    ]


def elastify(
    model: nn.Module,
    inputs: Inputs,
    *,
    widths: Sequence[float] = (0.25, 0.5, 0.75, 1.0),
    depth: bool = True,
    kernels: bool = True,
    resolutions: Sequence[int] = (),
    saliency: Saliency = l2,
    evidence: Evidence | None = None,
    protect: Sequence[str] = (),
) -> Elastic:
    """Make ``model`` a supernet over its own weights; they are shared with it, not copied.

    ``widths``: shares of each group that an arch may keep. ``depth``: blocks that only add to their input may go.
    ``kernels``: those of five and more a side may be cropped. ``resolutions``: sides of the images, in pixels.
    ``saliency``: what orders the entries of a group. ``protect``: names of layers whose shapes stay. Blocks and kernels
    stay where a cut network is its captured graph: there are no modules in it to change. Raises InputError where the
    model cannot be captured, or nothing of it can be cut.
    """
    if not widths or not all(0 < share <= 1 for share in widths):
        raise InputError(f"widths are shares above 0 and up to 1, not {list(widths)}")
    graph = trace(model, inputs)
    groups = [group for group in graph.groups if not protected(group, protect)]
    scores = saliency(graph, evidence or Evidence())
    orders = {g.name: torch.sort(scores[g.name], descending=True, stable=True).indices.tolist() for g in groups}
    choices = [Choice("resolution", tuple(sorted(resolutions)))] if resolutions else []
    for group in groups:
        options = tuple(sorted({max(1, round(share * group.size)) for share in (*widths, 1.0)}))
        if len(options) > 1:
            choices.append(Choice(f"{group.name}.keep", options))
    if not any(isinstance(graph.slice(cut), torch.fx.GraphModule) for cut in _uneven(graph)):
        if depth:
            choices += [Choice(f"{path}.depth", (0, 1)) for path in skippable(graph)]
        if kernels:
            kept = [path for path, _ in graph.model.named_modules() if matches(path, protect)]
            choices += [Choice(f"{path}.kernel", sides) for path, sides in croppable(graph, kept).items()]
    if not choices:
        frozen = f": {graph.frozen[0]}" if graph.frozen else ""
        raise InputError(f"nothing of {type(model).__name__} can be cut{frozen}")
    return Elastic(graph, Space(tuple(choices)), orders)
