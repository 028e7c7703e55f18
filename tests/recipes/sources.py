"""Sources of parts of language models, as a model might write them: sound ones, and ones that must be refused."""

from __future__ import annotations

HEAD = """
import math
import torch
from torch import nn
import torch.nn.functional as F
"""

CONVOLUTION = f'''"""A short causal convolution of each channel."""
{HEAD}
class Mixer(nn.Module):
    def __init__(self, width, kernel=4):
        super().__init__()
        self.conv = nn.Conv1d(width, width, kernel, groups=width)
        self.out = nn.Linear(width, width)

    def forward(self, x):
        left = F.pad(x.transpose(1, 2), (self.conv.kernel_size[0] - 1, 0))
        return self.out(self.conv(left).transpose(1, 2))
'''

GATED = CONVOLUTION.replace("A short", "A gated").replace(
    "return self.out(self.conv(left).transpose(1, 2))",
    "return self.out(self.conv(left).transpose(1, 2) * torch.sigmoid(x))",
)

LINEAR_ATTENTION = f'''"""Attention with a feature map: sums over the past instead of scores (arXiv:2006.16236)."""
{HEAD}
class Mixer(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.heads = 4
        self.project = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x):
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in self.project(x).chunk(3, -1))
        q, k = F.elu(q) + 1, F.elu(k) + 1
        states = (k.unsqueeze(-1) * v.unsqueeze(-2)).cumsum(1)
        seen = (q.unsqueeze(-2) @ states).squeeze(-2) / ((q * k.cumsum(1)).sum(-1, keepdim=True) + 1e-6)
        return self.out(seen.flatten(2))
'''

RECURRENT = f"""
{HEAD}
class Mixer(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.cell = nn.GRU(width, width, batch_first=True)

    def forward(self, x):
        return self.cell(x)[0]
"""

BLOCK = f'''"""A whole layer: a convolution as long as the text, by the Fourier transform."""
{HEAD}
class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.decay = nn.Parameter(torch.linspace(-3, 3, width))
        self.wide = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x):
        n = x.shape[1]
        kernel = torch.sigmoid(self.decay) ** torch.arange(n).unsqueeze(1)
        spectrum = torch.fft.rfft(kernel, n=2 * n, dim=0) * torch.fft.rfft(x, n=2 * n, dim=1)
        x = x + torch.fft.irfft(spectrum, n=2 * n, dim=1)[:, :n]
        return x + self.wide(x)
'''

SOUND = {"convolution": CONVOLUTION, "gated": GATED, "linear": LINEAR_ATTENTION, "recurrent": RECURRENT, "block": BLOCK}


def forward(body: str, init: str = "pass") -> str:
    """A mixer of a few statements."""
    return f"""
{HEAD}
class Mixer(nn.Module):
    def __init__(self, width):
        super().__init__()
        {init}

    def forward(self, x):
        {body}
"""


REFUSED = {
    "softmax over all": (forward("return (x @ x.mT).softmax(-1) @ x"), "looks ahead"),
    "one step ahead": (CONVOLUTION.replace("[0] - 1, 0)", "[0] - 2, 1)"), "looks ahead"),
    "mean of all": (forward("return x + x.mean(1, keepdim=True)"), "looks ahead"),
    "last token": (forward("return x * x[:, -1:].sigmoid()"), "looks ahead"),
    "by parity": (forward("return x if x.shape[1] % 2 else x + x.flip(1)"), "looks ahead"),
    "a gate that opens": (
        forward("return x + self.gate * x.flip(1)", "self.gate = nn.Parameter(torch.zeros(1))"),
        "looks ahead",
    ),
    "gradient only": (forward("return x + (x.flip(1) - x.flip(1).detach())"), "a gradient goes"),
    "batch norm": (
        forward("return self.norm(x.mT).mT", "self.norm = nn.BatchNorm1d(width)"),
        "sees the others|looks ahead",
    ),
    "mean of the batch": (forward("return x - x.mean(0, keepdim=True)"), "sees the others"),
    "by the batch's size": (forward("return x * x.shape[0]"), "comes out otherwise"),
    "memory": (
        forward("y = x + self.last; self.last = x.detach().mean() ; return y", "self.last = 0.0"),
        "remembers",
    ),
    "in place": (forward("return x.mul_(2)"), "writes into its input|fails"),
    "shape": (forward("return x[..., :1]"), r"makes \[3, 9, 1\]"),
    "pair": (forward("return x, x"), "makes tuple"),
    "one batch": (forward("return x.reshape(16, -1, x.shape[2])"), "fails on|makes"),
    "nothing": (forward("return None"), "makes NoneType"),
    "nan": (forward("return x / (x - x)"), "not finite"),
    "raises": (forward("raise KeyError('no such thing')"), "fails on .*KeyError: 'no such thing'"),
}
"""By what they do wrong, and what is said of it."""

DEAR = {
    "attention": forward(
        "return F.scaled_dot_product_attention(x[:, None], x[:, None], x[:, None], is_causal=True)[:, 0]"
    ),
    "scores": forward("return (x @ x.mT).tril() @ x"),
    "mask": forward("n = x.shape[1]; return x + torch.ones(n, n).tril().sum(1).view(1, n, 1)"),
}
"""Causal, and quadratic."""

BROKEN = {
    "class Mixer(": "no Python",
    "x = 1": "no class Mixer or Block",
    "Mixer = 3": "no class Mixer or Block",
    "class Mixer: pass": "that is a torch.nn.Module",
    "import torch\nclass Mixer(torch.nn.Module):\n    raise ValueError('not today')": "not today",
    "\x00": "no Python",
}

NEEDLESS = {
    "import os": "imports os",
    "import os.path as p": "imports os.path",
    "from subprocess import run": "imports subprocess",
    "from . import x": "imports",
    "import torch\ntorch.save(1, 'f')": r"uses torch\.save",
    "from torch import hub": r"uses torch\.hub",
    "from torch.utils import cpp_extension": r"uses torch\.utils\.cpp_extension",
    "open('/etc/passwd')": "uses open",
    "eval('1')": "uses eval",
    "().__class__.__subclasses__()": "uses __",
    "__builtins__": "uses __builtins__",
}
