"""Cutting one trained network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sartor import terminal
from sartor.cli.app import Debug, app
from sartor.cli.options import Json, MaxLatency, Threads, quantity, share_or_count


@app.command()
def prune(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="timm:NAME, torchvision:NAME, file.py:function, or a folder that prune wrote."
        ),
    ],
    data: Annotated[
        str | None, typer.Argument(metavar="[DATA]", help="Images to judge and to train by, as for fit.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A safetensors file of the model's weights.")
    ] = None,
    macs: Annotated[
        float | None,
        typer.Option("--macs", metavar="50%", parser=share_or_count, help="Multiply-accumulates that may be left."),
    ] = None,
    params: Annotated[
        float | None,
        typer.Option("--params", metavar="50%", parser=share_or_count, help="Parameters that may be left."),
    ] = None,
    max_latency: MaxLatency = None,
    saliency: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="l1, l2, bn_scale, fisher, taylor, hessian, variance or random."),
    ] = None,
    ranking: Annotated[
        str | None,
        typer.Option(metavar="cost|global|layer", help="By score over cost, over its layer's, or in each layer."),
    ] = None,
    depth: Annotated[bool, typer.Option("--depth", help="Whole blocks may go, too.")] = False,
    steps: Annotated[int | None, typer.Option(min=1, metavar="N", help="Cuts, with training after each.")] = None,
    schedule: Annotated[
        str | None, typer.Option(metavar="linear|cubic", help="How the steps approach the goal.")
    ] = None,
    protect: Annotated[
        list[str] | None, typer.Option(metavar="LAYER", help="A layer that keeps its shape; may be given many times.")
    ] = None,
    round_to: Annotated[int, typer.Option("--round-to", min=1, metavar="N", help="Keep multiples of N.")] = 1,
    time: Annotated[
        float | None,
        typer.Option("--time", metavar="5m", parser=quantity("time"), help="Training, where there are data."),
    ] = None,
    target: Annotated[str, typer.Option(metavar="NAME", help="What runs and times the file.")] = "onnxruntime",
    threads: Threads = 1,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="The seed of everything random.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="DIR", help="Default: pruned/NAME.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the folder.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Cut a trained network smaller: to a share of its size, or to a latency measured on the target.

    \b
    Examples:
      sartor prune timm:resnet18 photos/ --weights resnet18.safetensors --macs 50% --time 10m
      sartor prune nets.py:small digits --max-latency 0.1ms --weights small.safetensors -o fast
      sartor measure nets.py:small --cuts
    """
    from sartor.recipes.prune import prune_model

    pruned = prune_model(
        model,
        data,
        weights=weights,
        macs=macs,
        params=params,
        max_latency_ms=max_latency,
        saliency=saliency,
        ranking=ranking,
        depth=depth,
        steps=steps,
        schedule=schedule,
        protect=tuple(protect or ()),
        round_to=round_to,
        time_s=time,
        target=target,
        threads=threads,
        seed=seed,
        out=out,
        verbosity=0 if quiet or as_json else 1,
    )
    if quiet and not as_json:
        print(pruned.path)
    else:
        terminal.print_pruned(pruned, as_json)
