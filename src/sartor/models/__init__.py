"""Networks: the plain one an arch describes, and the supernet that shares weights between all of them."""

from sartor.models.convnet import ConvNet, build, input_shape
from sartor.models.supernet import Supernet, resize

__all__ = ["ConvNet", "Supernet", "build", "input_shape", "resize"]
