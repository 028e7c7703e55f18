"""Operators on the positions of images and sequences: pooling, interpolation, patches."""

from __future__ import annotations

from sartor.graph.atoms import Atoms, unlabelled
from sartor.graph.call import Call, Dims


def positions(atoms: Atoms, call: Call) -> Dims:
    """Channels stay what they are; trailing dimensions get a new size and are not cut."""
    return _moved(atoms, call, call.shape)


def with_indices(atoms: Atoms, call: Call) -> list[Dims]:
    return [_moved(atoms, call, shape) for shape in call.shapes if shape is not None]


def _moved(atoms: Atoms, call: Call, shape: tuple[int, ...]) -> Dims:
    value = call.tensors()[0]
    spatial = 1 if "1d" in call.op else 3 if "3d" in call.op else 2
    kept = value.rank - spatial
    for label in value.dims[kept:]:
        atoms.freeze(label, f"{call.why}: positions under a kernel")
    return (*value.dims[:kept], *(unlabelled(size) for size in shape[kept:]))


def unpooled(atoms: Atoms, call: Call) -> Dims:
    """max_unpool: values back to where they were, by channel."""
    value, at = call["self"], call["indices"]
    dims = _moved(atoms, call, call.shape)
    spatial = 3 if "3d" in call.op else 2
    for label, other in zip(value.dims[:-spatial], at.dims[:-spatial], strict=True):
        atoms.unify(label, other, call.why)
    return dims


def im2col(atoms: Atoms, call: Call) -> Dims:
    """Patches: [n, c, h, w] → [n, c * kernel, positions]."""
    value = call["self"]
    *batch, channels, height, width = value.dims
    for label in (height, width):
        atoms.freeze(label, f"{call.why}: positions under a kernel")
    kernel = call["kernel_size"]
    area = kernel[0] * kernel[1]
    return (*batch, atoms.merge([channels, unlabelled(area)]), unlabelled(call.shape[-1]))


def col2im(atoms: Atoms, call: Call) -> Dims:
    value = call["self"]
    *batch, columns, places = value.dims
    kernel = call["kernel_size"]
    area = kernel[0] * kernel[1]
    channels, inside = atoms.split(columns, (len(columns) // area, area), call.why)
    for label in (inside, places):
        atoms.freeze(label, f"{call.why}: positions under a kernel")
    return (*batch, channels, *(unlabelled(size) for size in call.shape[-2:]))


def unfold(atoms: Atoms, call: Call) -> Dims:
    """Sliding windows over one dimension."""
    value = call["self"]
    axis = call["dimension"] % value.rank
    atoms.freeze(value.dims[axis], f"{call.why}: positions under a window")
    dims = list(value.dims)
    dims[axis] = unlabelled(call.shape[axis])
    return (*dims, unlabelled(call["size"]))


def sampled(atoms: Atoms, call: Call) -> Dims:
    """grid_sampler: an image [n, c, h, w] read at the points of a grid [n, h', w', 2]."""
    image, grid = call["input"], call["grid"]
    for label in (*image.dims[2:], *grid.dims[1:]):
        atoms.freeze(label, f"{call.why}: positions of pixels")
    batch = atoms.unify(image.dims[0], grid.dims[0], call.why)
    return (batch, image.dims[1], *(unlabelled(size) for size in call.shape[2:]))


RULES = {
    **dict.fromkeys(
        (
            *(f"aten.{kind}_pool{n}d.default" for kind in ("max", "avg", "adaptive_avg") for n in (1, 2, 3)),
            *(
                f"aten.upsample_{mode}.{form}"
                for mode in (
                    "nearest2d",
                    "bilinear2d",
                    "bicubic2d",
                    "linear1d",
                    "nearest1d",
                    "trilinear3d",
                    "nearest3d",
                )
                for form in ("vec", "default")
            ),
            "aten._upsample_bilinear2d_aa.vec",
            "aten._upsample_bilinear2d_aa.default",
            "aten._upsample_bicubic2d_aa.vec",
            "aten._upsample_bicubic2d_aa.default",
            *(f"aten._upsample_nearest_exact{n}d.{form}" for n in (1, 2, 3) for form in ("vec", "default")),
        ),
        positions,
    ),
    **dict.fromkeys(
        (
            *(f"aten.adaptive_max_pool{n}d.default" for n in (1, 2, 3)),
            *(f"aten.max_pool{n}d_with_indices.default" for n in (1, 2, 3)),
        ),
        with_indices,
    ),
    **dict.fromkeys(("aten.max_unpool2d.default", "aten.max_unpool3d.default"), unpooled),
    "aten.im2col.default": im2col,
    "aten.col2im.default": col2im,
    "aten.unfold.default": unfold,
    "aten.grid_sampler.default": sampled,
    "aten.grid_sampler_2d.default": sampled,
}
