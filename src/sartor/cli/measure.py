"""What networks cost, here and on other devices."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sartor import terminal
from sartor.cli.app import Debug, app
from sartor.cli.options import Json, LatencyModelFile, Threads, quantity
from sartor.errors import InputError


@app.command()
def measure(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="timm:NAME, an .onnx file, a model folder, or file.py:function. Several are compared.",
        ),
    ],
    target: Annotated[str, typer.Option(metavar="NAME", help="What runs and times the file.")] = "onnxruntime",
    threads: Threads = 1,
    runs: Annotated[int, typer.Option(min=1, metavar="N", help="Timed runs.")] = 200,
    batch: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Examples of one call. Default: the model's example.")
    ] = None,
    latency_model: LatencyModelFile = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Time it anew, although it was timed before.")] = False,
    cuts: Annotated[
        bool, typer.Option("--cuts", help="Instead: what of it can be cut, what cannot, and why, layer by layer.")
    ] = False,
    lint: Annotated[
        bool,
        typer.Option("--lint", help="Also: sizes and layers that sit badly on the target, and what measured faster."),
    ] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page with roofline, efficiency, layers and memory.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Count and time a network, layer by layer: parameters, MACs, memory, latency. Several, side by side.

    \b
    Examples:
      sartor measure timm:resnet18 --json
      sartor measure timm:resnet18 --html resnet18.html
      sartor measure timm:resnet18 timm:mobilenetv3_large_100 --html both.html
      sartor measure timm:swin_tiny_patch4_window7_224 --cuts
      sartor measure model/ --threads 2
      sartor measure nets.py:small --runs 1000
      sartor measure timm:resnet18 --latency-model laptop.json
      sartor measure nets.py:small --lint
    """
    if cuts:
        given = (target, threads, runs, batch, latency_model, fresh, lint)
        if given != ("onnxruntime", 1, 200, None, None, False, False):
            raise InputError(
                "--cuts times nothing: leave out --target, --threads, --runs, --batch, --latency-model, --fresh, --lint"
            )
        if len(models) > 1 or html:
            raise InputError("--cuts is of one model, and has no page: leave out the others, and --html")
        from sartor.measure.cuts import possible_cuts

        terminal.print_cuts(possible_cuts(models[0]), as_json)
        return
    if html:
        from sartor.report.measured.page import check_place, write_measured

        check_place(html)
    settings: dict[str, Any] = {
        "target": target, "threads": threads, "runs": runs, "batch": batch, "latency_model": latency_model,
    }  # fmt: skip
    if len(models) > 1:
        if lint:
            raise InputError("--lint is of one model: leave out the others")
        from sartor.measure.compare import compare_models

        found = compare_models(models, **settings)
        terminal.print_compared(found, as_json)
    else:
        from sartor.measure.model import measure_model

        found = measure_model(models[0], **settings, fresh=fresh, lint=lint, memory_plan=html is not None)
        terminal.print_measured(found, as_json)
    if html:
        write_measured(html, found)
        if not as_json:
            print(f"page:    {html}")


@app.command("profile-device")
def profile_device(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The profile, which can be shared.")],
    target: Annotated[str, typer.Option(metavar="NAME", help="What runs and times the files.")] = "onnxruntime",
    threads: Threads = 1,
    networks: Annotated[int, typer.Option(min=1, metavar="N", help="Networks that are timed whole.")] = 100,
    size: Annotated[int, typer.Option(min=8, metavar="N", help="Pixels a side of their images.")] = 32,
    channels: Annotated[int, typer.Option(min=1, metavar="N", help="Channels of their images.")] = 3,
    classes: Annotated[int, typer.Option(min=2, metavar="N", help="Classes that they tell apart.")] = 10,
    like: Annotated[
        list[str] | None, typer.Option(metavar="MODEL", help="A network to time as well, and its parts; repeatable.")
    ] = None,
    elsewhere: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Another device's profile: a few networks do then."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of the draw of networks.")] = 0,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Time networks and their parts on a device, and write what predicts any other network's latency there.

    \b
    Examples:
      sartor profile-device --out laptop.json
      sartor profile-device --out board.json --target http://board:8765 --networks 30
      sartor profile-device --out new.json --from laptop.json --networks 10
      sartor fit photos/ --max-latency 2ms --latency-model laptop.json
    """
    from sartor.recipes.profile_device import profile_device

    profile = profile_device(
        out,
        target=target,
        threads=threads,
        networks=networks,
        size=size,
        channels=channels,
        classes=classes,
        like=like or (),
        elsewhere=elsewhere,
        seed=seed,
        verbosity=0 if as_json else 1,
    )
    terminal.print_profile(profile, out, as_json)


@app.command()
def agent(
    host: Annotated[str, typer.Option(metavar="H", help="The address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="P", help="0 for any that is free.")] = 8711,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", metavar="F", help="The token; else $SARTOR_TOKEN, else one is made.")
    ] = None,
    target: Annotated[str, typer.Option(metavar="NAME", help="What runs and times the files.")] = "onnxruntime",
    max_size: Annotated[
        int, typer.Option("--max-size", metavar="200MB", parser=quantity("size"), help="Of a file, and of a request.")
    ] = "200MB",  # type: ignore[assignment]  # Typer parses the default as it parses what is typed
    max_time: Annotated[
        float, typer.Option("--max-time", metavar="60s", parser=quantity("time"), help="Of a job; then it is killed.")
    ] = "60s",  # type: ignore[assignment]
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert", metavar="F", help="A certificate, in PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", metavar="F", help="Its key.")] = None,
    cache: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where files are kept. Default: ~/.cache/sartor/agent.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Run and time files on this machine for those who have the token: their --target is http://HERE:PORT.

    Only ONNX files are run, one job at a time, each in a process of its own that is killed when it takes too long.

    \b
    Examples:
      sartor agent --host 0.0.0.0 --token-file token.txt
      sartor agent --host 0.0.0.0 --tls-cert board.pem --tls-key board.key --max-time 5m
    """
    from sartor.measure.agent.serve import serve

    serve(
        host=host,
        port=port,
        token_file=token_file,
        target=target,
        max_size_bytes=max_size,
        max_time_s=max_time,
        tls_cert=tls_cert,
        tls_key=tls_key,
        cache=cache,
        say=lambda line: print(line, flush=True),
    )
