"""What makes a run, and what is done with one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sartor import terminal
from sartor.cli.app import Debug, app
from sartor.cli.options import (
    Json,
    LatencyModelFile,
    MaxLatency,
    MaxMacs,
    MaxMemory,
    MaxSize,
    RunDir,
    Threads,
    fraction,
    quantity,
)
from sartor.errors import InputError


@app.command()
def fit(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A folder of class folders (with or without train/val/test above), an .npz with x and y, a parquet "
            "file or folder in the Hugging Face image layout, or the built-in digits.",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Cut this network instead: timm:NAME, file.py:function, a pruned folder."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A safetensors file of the model's weights.")
    ] = None,
    max_latency: MaxLatency = None,
    max_size: MaxSize = None,
    max_macs: MaxMacs = None,
    max_memory: MaxMemory = None,
    time: Annotated[
        float, typer.Option("--time", metavar="30m", parser=quantity("time"), help="Wall time for everything.")
    ] = "30m",  # type: ignore[assignment]  # Typer parses the default as it parses what is typed
    target: Annotated[str, typer.Option(metavar="NAME", help="What runs and times the files.")] = "onnxruntime",
    threads: Threads = 1,
    latency_model: LatencyModelFile = None,
    precision: Annotated[
        str, typer.Option(metavar="fp32,int8", help="Precisions that compete on the front.")
    ] = "fp32,int8",
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="The seed of everything random.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="RUN", help="The folder of the run. Default: runs/NAME.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on, and never begin anew: --out must hold a run.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print how the time would be spent, and stop.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the folder of the run.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more on the way.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Search, train, cut, quantise, export and measure: the main job.

    Takes about --time and ends with a folder that holds the front, a report and one exported network for each member.
    Ctrl-C stops cleanly; the same command goes on.

    \b
    Examples:
      sartor fit digits --time 90s --out demo
      sartor fit photos/ --max-latency 2ms --max-size 1MB --time 1h --out run
      sartor fit train.parquet --precision fp32 --threads 4 --dry-run
    """
    if quiet and verbose:
        raise InputError("--quiet and --verbose contradict each other: give one of them")
    if dry_run and (as_json or quiet):
        raise InputError("--dry-run prints a plan for people: leave out --json and --quiet")
    from sartor.recipes.fit import fit

    run = fit(
        data,
        model=model,
        weights=weights,
        max_latency_ms=max_latency,
        max_size_bytes=max_size,
        max_macs=max_macs,
        max_memory_bytes=max_memory,
        time_s=time,
        target=target,
        threads=threads,
        latency_model=latency_model,
        precision=tuple(part.strip() for part in precision.split(",") if part.strip()),
        seed=seed,
        out=out,
        resume=resume,
        dry_run=dry_run,
        verbosity=0 if quiet or as_json else 2 if verbose else 1,
    )
    if run is None:  # a dry run
        return
    if quiet and not as_json:
        print(run.path)
    else:
        terminal.print_front(run, as_json)


@app.command()
def show(run: RunDir, as_json: Json = False, debug: Debug = False) -> None:
    """Print the front of a run.

    \b
    Examples:
      sartor show run
      sartor show run --json | jq '.front[].metrics.latency_ms'
    """
    from sartor.recipes.run import open_run

    terminal.print_front(open_run(run), as_json)


@app.command()
def pick(
    run: RunDir,
    max_latency: MaxLatency = None,
    max_size: MaxSize = None,
    max_macs: MaxMacs = None,
    max_memory: MaxMemory = None,
    min_accuracy: Annotated[
        float | None,
        typer.Option("--min-accuracy", metavar="90%", parser=fraction, help="Accuracy on the validation images."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Copy the model's files to this folder.")
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Take the most accurate network within limits out of a run.

    With --min-accuracy alone it is the fastest that reaches it. Exits with 3 and names the nearest miss when none is
    within the limits.

    \b
    Examples:
      sartor pick run --max-latency 1ms -o model
      sartor pick run --min-accuracy 90% --max-size 500KB --json
    """
    from sartor.recipes.run import open_run

    member = open_run(run).pick(
        max_latency_ms=max_latency,
        max_size_bytes=max_size,
        max_macs=max_macs,
        max_memory_bytes=max_memory,
        min_accuracy=min_accuracy,
        out=out,
    )
    terminal.print_member(member, as_json)


@app.command()
def report(run: RunDir, debug: Debug = False) -> None:
    """Write the HTML report of a run again, and print where it is.

    \b
    Example:
      sartor report run
    """
    from sartor.recipes.run import open_run
    from sartor.report.html import write_report

    print(write_report(open_run(run).path))


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A picked folder, or an .onnx file made by sartor.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILES…", help="Images, or folders of images.")],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Name the class of images with an exported model.

    A file that cannot be read is named and the others go on; the exit code is 2 then.

    \b
    Examples:
      sartor predict model cat.jpg dog.png
      sartor predict model photos/ --json
    """
    from sartor.report import units
    from sartor.serve.predict import Classifier

    failed = 0
    answers = []
    for answer in Classifier(model).predict_files(files):
        failed += answer.error is not None
        if as_json:
            answers.append(answer.to_dict())
        elif answer.error is not None:
            terminal.fail(f"{answer.file}: {answer.error}")
        else:
            print(f"{answer.file}: {answer.class_name} {units.percent(answer.probability)}")
    if as_json:
        terminal.print_json(answers)
    if failed:
        raise InputError(f"{failed} of the files could not be read")
