"""Search by growing: children that compute what the best network so far does, larger, are trained on and compared.

``loop.grow`` drives it with a controller that learns by policy gradient what to grow: ``eas`` reads a network as a
sequence of layers and widens and deepens them, ``path_level`` as a tree and branches them.
"""

from sartor.search.growing.eas import EAS
from sartor.search.growing.loop import Grown, grow
from sartor.search.growing.path_level import PathLevel

__all__ = ["EAS", "Grown", "PathLevel", "grow"]
