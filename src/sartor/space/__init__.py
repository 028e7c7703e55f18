"""What may vary: choices, the spaces made of them, and ready presets. No torch."""

from sartor.space.choice import Choice
from sartor.space.constrained import Constrained, Constraint
from sartor.space.presets import OPERATORS, conv_space
from sartor.space.space import Space

__all__ = ["OPERATORS", "Choice", "Constrained", "Constraint", "Space", "conv_space"]
