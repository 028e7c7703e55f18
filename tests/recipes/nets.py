"""The beginning of a person's own file of networks, for jobs that are given a network by its name."""

BLOCK = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.a, self.n = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)
        self.b, self.m = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)

    def forward(self, x):
        return (x + self.m(self.b(self.n(self.a(x)).relu()))).relu()
"""
