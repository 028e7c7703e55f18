"""A model that writes the networks: propose code, test it, analyse what came out, and propose again.

Liu et al., "AlphaGo Moment for Model Architecture Discovery", ASI-Arch, P247 (arXiv:2507.18074).
"""

from sartor.search.asi_arch.fitness import best_so_far, fitness
from sartor.search.asi_arch.strategy import asi_arch, standing

__all__ = ["asi_arch", "best_so_far", "fitness", "standing"]
