"""One set of weights that serves every arch of a space.

The forward pass is written once, in the plain network: a supernet runs the plain network of an arch on slices of its
own parameters (``torch.func.functional_call``), so ``extract`` is exact by construction, the arch is an argument and
never hidden state, and gradients flow through the slices into the shared weights. Rejected: elastic layers that slice
inside their forward (once-for-all's 841-line ``dynamic_layers.py``), a second implementation of every block that must
be kept equal to the first.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from sartor.records import Arch, Option
from sartor.space import Space

Builder = Callable[[Mapping[str, Option]], nn.Module]

_SKELETONS = 512
"""Plain networks without storage kept ready, one an arch; a few kilobytes each."""


class Supernet(nn.Module):
    """Weights shared by every arch of ``space``, each on a prefix of the channels and the centre of the kernels.

    ``builder(arch)`` makes the plain network of an arch. Every parameter of every arch must be found, under the same
    name, at least as large, in the network of some *spanning* arch: the largest one, and for each option of an
    operator-like choice (text options) the largest one with that option. Shared names take the largest shape.

    Slicing: dimensions 0 and 1 (channels) keep a prefix (slimmable networks, arXiv:1812.08928; BigNAS,
    arXiv:2003.11142 §3.1), dimensions 2 and 3 (kernels) keep the centre. Deviation from OFA (arXiv:1908.09791 §3.3):
    cropped kernels are not passed through learned transformation matrices, which BigNAS showed are not needed.
    """

    def __init__(self, space: Space, builder: Builder):
        super().__init__()
        self.space = space
        self.builder = builder
        self.largest = space.largest()
        self._skeletons: dict[Arch, nn.Module] = {}
        self._names: dict[str, str] = {}
        self.weights = nn.ParameterDict()
        state: dict[str, Tensor] = {}
        for arch in _spanning(space):
            network = builder(arch)
            parameters = dict(network.named_parameters())
            for name, tensor in network.state_dict().items():
                if name not in state or tensor.numel() > state[name].numel():
                    state[name] = tensor
                    key = name.replace(".", "/")
                    self._names[name] = key
                    if name in parameters:
                        self.weights[key] = nn.Parameter(tensor.detach().clone(), parameters[name].requires_grad)
                    else:
                        self.register_buffer(key, tensor.detach().clone())

    def tensors(self) -> dict[str, Tensor]:
        """Every shared parameter and buffer by the plain network's name."""
        return {
            name: self.weights[key] if key in self.weights else getattr(self, key) for name, key in self._names.items()
        }

    def sliced(self, arch: Arch) -> dict[str, Tensor]:
        """Views of the shared tensors in the shapes of ``arch``'s network, by name. Gradients flow through them."""
        shared = self.tensors()
        return {name: _slice(shared[name], like.shape) for name, like in self._skeleton(arch).state_dict().items()}

    def forward(self, x: Tensor, arch: Arch | None = None) -> Tensor:
        """Logits of ``arch`` (the largest where none is given) for images [b, C, H, W] at any resolution ≥ the arch's:
        they are resized to it.

        In training mode batch norm uses the batch's statistics and only the largest arch updates the running ones
        (others would overwrite each other's); recalibrate an extracted subnet before judging it.
        """
        arch = arch or self.largest
        return self.run((resize(x, int(arch["resolution"])),), arch)

    def run(self, inputs: tuple[Tensor, ...], arch: Arch) -> Tensor:
        """What ``arch``'s network makes of ``inputs``, as it takes them: tokens, or several tensors. See forward."""
        skeleton = self._skeleton(arch)
        skeleton.train(self.training)
        state = self.sliced(arch)
        if self.training and arch != self.largest:
            state = {
                n: t.clone() if not isinstance(t, nn.Parameter) and not t.requires_grad else t for n, t in state.items()
            }
        return functional_call(skeleton, state, inputs)

    def extract(self, arch: Arch) -> nn.Module:
        """The plain network of ``arch`` with its own copy of its weights, in this supernet's mode."""
        network = copy.deepcopy(self._skeleton(arch)).to_empty(device=next(self.parameters()).device)
        network.load_state_dict({name: tensor.detach().clone() for name, tensor in self.sliced(arch).items()})
        for name, constant in _constants(self._skeleton(arch)).items():  # emptied, as all else was
            network.get_buffer(name).copy_(constant)
        return network.train(self.training)

    def _skeleton(self, arch: Arch) -> nn.Module:
        if arch not in self._skeletons:
            if len(self._skeletons) >= _SKELETONS:
                self._skeletons.pop(next(iter(self._skeletons)))
            with torch.device("meta"):
                skeleton = self.builder(arch)
            if _constants(skeleton):
                with torch.random.fork_rng(devices=[]):
                    real = self.builder(arch)
                for name in _constants(skeleton):
                    place, _, last = name.rpartition(".")
                    constant = real.get_buffer(name).to(next(self.parameters()).device)
                    skeleton.get_submodule(place).register_buffer(last, constant, persistent=False)
            self._skeletons[arch] = skeleton
        return self._skeletons[arch]

    def _apply(self, fn, recurse=True):  # type: ignore[no-untyped-def]
        # Skeletons live on the meta device and never hold weights: moving the supernet must not touch them. Their
        # constants are made where the weights are then.
        self._skeletons.clear()
        return super()._apply(fn, recurse)

    def __deepcopy__(self, memo):  # type: ignore[no-untyped-def]
        twin = Supernet(self.space, self.builder)
        twin.load_state_dict(self.state_dict())
        return twin.train(self.training)


def resize(x: Tensor, side: int) -> Tensor:
    """Images [b, C, H, W] at ``side`` × ``side`` pixels (antialiased bilinear); as they are where they have it."""
    if x.shape[-1] == side and x.shape[-2] == side:
        return x
    return F.interpolate(x.float(), (side, side), mode="bilinear", antialias=True).to(x.dtype)


def _constants(network: nn.Module) -> dict[str, Tensor]:
    """Buffers that are no part of the state, such as tables of positions: made by the builder, and never shared."""
    state = network.state_dict().keys()
    return {name: buffer for name, buffer in network.named_buffers() if name not in state}


def _slice(tensor: Tensor, shape: torch.Size) -> Tensor:
    for dim, size in enumerate(shape):
        if tensor.shape[dim] != size:
            start = (tensor.shape[dim] - size) // 2 if dim >= 2 else 0
            tensor = tensor.narrow(dim, start, size)
    return tensor


def _spanning(space: Space) -> list[Arch]:
    """The largest arch, and for each text option the largest arch with it: together they hold every parameter."""
    archs = [space.largest()]
    for choice in space.choices:
        for option in choice.options:
            if isinstance(option, str):
                archs.append(space.restrict({choice.name: (option,)}).largest())
    return list(dict.fromkeys(archs))


def sample_archs(space: Space, n: int, seed: int) -> list[Arch]:
    """``n`` archs drawn uniformly with a seed, repeats allowed."""
    rng = random.Random(seed)
    return [space.sample(rng) for _ in range(n)]
