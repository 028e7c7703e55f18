"""One graph for every cut: any network traced, its coupled dimensions grouped, and cut exactly."""

from sartor.graph.cut import Cut
from sartor.graph.graph import Graph, trace
from sartor.graph.groups import Group, Tie

__all__ = ["Cut", "Graph", "Group", "Tie", "trace"]
