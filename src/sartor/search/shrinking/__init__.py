"""Smaller spaces by what was evaluated: criteria, one paper a file, and a wrapper that applies one as a search goes on.

A criterion is a function ``(space, history, objectives) -> space``, whose space has some of the options of the first.
"""

from sartor.search.shrinking.autobuild import autobuild
from sartor.search.shrinking.effects import profiled, traded
from sartor.search.shrinking.et_error import et_error, searched_space
from sartor.search.shrinking.neas import neas
from sartor.search.shrinking.prenas import prenas
from sartor.search.shrinking.wrapper import shrinking

__all__ = ["autobuild", "et_error", "neas", "prenas", "profiled", "searched_space", "shrinking", "traded"]
