"""The inverse of a cut: larger networks that compute what they did before.

``widen`` repeats entries of groups and shares what reads them among the copies; ``enlarge`` shares nothing, and grows
any group, for networks that are timed or trained anew. ``deepen`` puts a layer that does nothing behind a layer,
``repeat`` a block behind itself. ``branch`` replaces a layer by several that add up to it, or stand beside each other.
``layers`` says what a network can grow by.
"""

from sartor.graph.grow.branch import branch
from sartor.graph.grow.deepen import deepen, repeat
from sartor.graph.grow.layers import Kind, Layer, grown, layers
from sartor.graph.grow.widen import enlarge, widen

__all__ = ["Kind", "Layer", "branch", "deepen", "enlarge", "grown", "layers", "repeat", "widen"]
