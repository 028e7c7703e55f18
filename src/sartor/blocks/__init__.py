"""Reusable modules, one family a file, one paper a class."""

from sartor.blocks.conv import ConvNormAct, ConvPoolNormAct
from sartor.blocks.mbconv import FusedMBConv, MBConv
from sartor.blocks.residual import PooledResidual, Residual
from sartor.blocks.squeeze_excite import SqueezeExcite

BLOCKS = {"residual": Residual, "pooled": PooledResidual, "fused": FusedMBConv, "mbconv": MBConv}
"""The blocks an arch names in ``sN.op``."""

__all__ = [
    "BLOCKS",
    "ConvNormAct",
    "ConvPoolNormAct",
    "FusedMBConv",
    "MBConv",
    "PooledResidual",
    "Residual",
    "SqueezeExcite",
]
