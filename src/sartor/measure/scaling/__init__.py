"""A network and a factor: a larger or smaller network, by the rules of published families."""

from sartor.measure.scaling.rules import RULES, Factors, Rule, compound, fast, resnet_rs
from sartor.measure.scaling.scale import Scaled, activations, scale

__all__ = ["RULES", "Factors", "Rule", "Scaled", "activations", "compound", "fast", "resnet_rs", "scale"]
