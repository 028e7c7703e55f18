r"""Who counts multiply-accumulates right, and in what time? Ours and public counters against PyTorch's dispatcher.

    pip install --no-deps --target counters fvcore ptflops calflops thop torchinfo \
        iopath yacs portalocker termcolor tabulate transformers tokenizers accelerate
    python benchmarks/counting.py --peers counters [--models FILE] [NAME ...]

The reference is PyTorch's own counter (torch.utils.flop_counter) on a real forward pass with attention as matrix
products. Each counter gets a copy of the network and is asked as its README says; its MACs are divided by the
reference's, and its seconds are the less of two calls. ``right``: within 1 %. Everything runs on one thread.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import math
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sartor.errors import InputError
from sartor.measure.counts import counts_of
from sartor.models.zoo import Opened, open_model

Counter = Callable[[nn.Module, tuple[Any, ...]], float]
NAMES = ("torchvision:resnet18", "timm:mobilenetv3_small_050", "timm:vit_tiny_patch16_224", "torchvision:swin_t")


def sartor(model: nn.Module, args: tuple[Any, ...]) -> float:
    return counts_of(model, args).macs


def fvcore(model: nn.Module, args: tuple[Any, ...]) -> float:
    from fvcore.nn import FlopCountAnalysis  # type: ignore[import-not-found]

    return float(
        FlopCountAnalysis(model, args).unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()
    )


def ptflops(model: nn.Module, args: tuple[Any, ...]) -> float:
    from ptflops import get_model_complexity_info  # type: ignore[import-not-found]

    macs, _ = get_model_complexity_info(model, tuple(args[0].shape[1:]), as_strings=False, print_per_layer_stat=False)
    return math.nan if macs is None else float(macs)


def calflops(model: nn.Module, args: tuple[Any, ...]) -> float:
    from calflops import calculate_flops  # type: ignore[import-not-found]

    _, macs, _ = calculate_flops(model, args=list(args), output_as_string=False, print_results=False)
    return float(macs)


def thop(model: nn.Module, args: tuple[Any, ...]) -> float:
    from thop import profile  # type: ignore[import-not-found]

    return float(profile(model, inputs=args, verbose=False)[0])


def torchinfo(model: nn.Module, args: tuple[Any, ...]) -> float:
    from torchinfo import summary  # type: ignore[import-not-found]

    return float(summary(model, input_data=args, verbose=0).total_mult_adds)


PEERS: tuple[Counter, ...] = (fvcore, ptflops, calflops, thop, torchinfo)


def dispatcher(opened: Opened) -> int:
    """Of every convolution and matrix product that really runs."""
    model = copy.deepcopy(opened.module).requires_grad_(False)  # its module tracker fails on some networks otherwise
    counter = FlopCounterMode(display=False)
    torch.backends.mha.set_fastpath_enabled(False)  # one operator, in which the dispatcher sees no product
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        model(*opened.inputs)
    torch.backends.mha.set_fastpath_enabled(True)
    return counter.get_total_flops() // 2


def asked(counter: Counter, opened: Opened) -> tuple[float, float]:
    """MACs and seconds; NaN where the counter fails."""
    seconds, macs = math.inf, math.nan
    for _ in range(2):
        model = copy.deepcopy(opened.module)
        assert isinstance(opened.inputs, tuple)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), torch.no_grad():
            start = time.perf_counter()
            try:
                macs = counter(model, opened.inputs)
            except Exception:  # any: that is part of the result
                return math.nan, math.nan
            seconds = min(seconds, time.perf_counter() - start)
    return macs, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--peers", type=Path, help="folder that the other counters were installed into")
    parser.add_argument("--models", type=Path, help="file of names, one a line")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if options.peers is not None:
        if not options.peers.is_dir():
            raise SystemExit(f"{options.peers} is missing: install the counters there, as --help says")
        sys.path.append(str(options.peers))
    counters = (sartor, *(PEERS if options.peers is not None else ()))
    lines = options.models.read_text().splitlines() if options.models else options.names
    names = [line.strip() for line in lines if line.strip() and not line.startswith("#")]

    print("| network | GMACs | " + " | ".join(counter.__name__ for counter in counters) + " |")
    print("|---" * (len(counters) + 2) + "|")
    ratios: dict[str, list[float]] = {counter.__name__: [] for counter in counters}
    lags: list[float] = []
    exact = 0
    for name in names:
        try:
            opened = open_model(name)
        except InputError as error:
            raise SystemExit(str(error)) from error
        opened.module.eval()
        reference = dispatcher(opened)
        cells, right = [], []
        for counter in counters:
            macs, seconds = asked(counter, opened)
            ratio = macs / reference
            ratios[counter.__name__].append(ratio)
            if counter is sartor:
                exact += macs == reference
                ours = seconds
            elif abs(ratio - 1) <= 0.01:
                right.append(seconds)
            cells.append("fails" if math.isnan(macs) else f"{100 * (ratio - 1):+.2f} %, {seconds * 1e3:.0f} ms")
        if right:
            lags.append(ours / min(right))
        print(f"| {name} | {reference / 1e9:.3f} | " + " | ".join(cells) + " |", flush=True)
    print()
    print(f"ours to the unit on {exact} of {len(names)}")
    for called, found in ratios.items():
        good = sum(abs(ratio - 1) <= 0.01 for ratio in found)
        failed = sum(math.isnan(ratio) for ratio in found)
        print(f"{called}: within 1 % on {good} of {len(found)}" + (f", fails on {failed}" if failed else ""))
    if lags:
        print(
            f"ours takes {statistics.median(lags):.2f} of the fastest right peer's time (median over the {len(lags)} "
            f"networks that one gets right), at most {max(lags):.2f}; no slower on {sum(lag <= 1 for lag in lags)}"
        )


if __name__ == "__main__":
    main()
