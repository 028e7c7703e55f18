"""Source code of a part of a language model: read, tried in a process with limits, checked, trained and measured.

This keeps mistakes from doing harm: an endless loop, all of the memory, a file, a look at the next token. It is **no
security boundary**. Python cannot be fenced in from within, and whoever means harm gets out; run what you do not trust
in a container or a virtual machine without a network and without anything of yours in it.
"""

from sartor.recipes.mixers.evaluator import TrainedMixer

__all__ = ["TrainedMixer"]
