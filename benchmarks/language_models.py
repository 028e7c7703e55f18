"""A small language model in fp32 and int8 on several runtimes: tokens a second, memory, accuracy (MELTing point, P089).

    python benchmarks/language_models.py [--data ../shared/data] [--steps 1500] [--targets onnxruntime openvino torch]

A GPT over characters is trained on the first nine tenths of tiny Shakespeare; what is told of it is of text in the last
tenth. Reading a prompt and making the next token are timed apart, each file beside those of the other precision.
``read GB/s``: the weights that decoding reads for each token, times its rate: where this comes near to what the memory
gives, decoding is bound by it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch

from sartor.data.text import characters, windows_of
from sartor.measure.language import Bench, language_bench
from sartor.models.gpt import Gpt
from sartor.train.language import train_language


def trained(tokens: np.ndarray, words: int, *, steps: int, seed: int = 0, rows: int = 16, **sizes: int) -> Gpt:
    """A GPT of ``sizes`` after ``steps`` batches of ``rows`` random windows; one descent of the learning rate."""
    torch.manual_seed(seed)
    model = Gpt(words, **sizes)
    train_language(model, torch.from_numpy(tokens), context=model.context, steps=steps, rows=rows)
    return model.eval()


HEADS = (
    "target",
    "precision",
    "prefill tokens/s",
    "decode tokens/s",
    "repeats differ",
    "peak RSS",
    "of it model",
    "read GB/s",
    "perplexity",
    "next token",
    "as in PyTorch",
)


def line(row: Bench) -> str:
    if row.said is None:
        return f"| {row.target} | {row.precision} | {row.missing} |"
    said = row.said
    rate = lambda value, ci: f"{value:,.0f} ({ci[0]:,.0f} to {ci[1]:,.0f})"
    cells = (
        row.target,
        row.precision,
        rate(row.prefill_tokens_per_s, row.prefill_ci),
        rate(row.decode_tokens_per_s, row.decode_ci),
        f"{row.spread:.1%}" + (", disturbed" if row.disturbed else ""),
        f"{row.peak_rss_bytes / 1e6:.0f} MB",
        f"{row.added_rss_bytes / 1e6:.0f} MB",
        f"{row.size_bytes * row.decode_tokens_per_s / 1e9:.1f}",
        f"{said.perplexity:.3f} ({said.perplexity_ci[0]:.3f} to {said.perplexity_ci[1]:.3f})",
        f"{said.accuracy:.2%} ({said.accuracy_ci[0]:.2%} to {said.accuracy_ci[1]:.2%})",
        f"{said.agreement:.2%}",
    )
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--context", type=int, default=192)
    parser.add_argument("--prompt", type=int, default=128)
    parser.add_argument("--windows", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--targets", nargs="+", default=["onnxruntime", "openvino", "torch"])
    options = parser.parse_args()
    file = options.data / "text" / "tinyshakespeare.txt"
    if not file.is_file():
        raise SystemExit(f"{file} is missing: --data names the folder that holds text/tinyshakespeare.txt")
    torch.set_num_threads(options.threads)
    tokens, words = characters(file)
    edge = len(tokens) * 9 // 10
    sizes = {"context": options.context, "width": options.width, "depth": options.depth, "heads": options.width // 32}
    model = trained(tokens[:edge], words, steps=options.steps, **sizes)
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{count / 1e6:.2f} M parameters, prompt {options.prompt}, context {options.context}, {options.steps} steps")
    with tempfile.TemporaryDirectory() as folder:
        seen = windows_of(tokens[edge:], options.prompt, options.windows)
        rows = language_bench(model, seen, Path(folder), targets=options.targets, threads=options.threads)
    print("| " + " | ".join(HEADS) + " |")
    print("|---" * len(HEADS) + "|")
    for row in rows:
        print(line(row))


if __name__ == "__main__":
    main()
