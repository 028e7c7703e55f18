"""The command line: every verb is a Python function of the same arguments, imported when the verb runs.

Nothing here imports torch or Rich before a verb asks for it: ``sartor --help`` stays under 0.3 s. Errors are one line
on stderr and an exit code (see ``errors.py``); ``--debug`` shows the traceback.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from sartor import __version__, terminal
from sartor.errors import InputError, SartorError
from sartor.options import (
    Json,
    LatencyModelFile,
    MaxLatency,
    MaxMacs,
    MaxMemory,
    MaxSize,
    Plot,
    RunDir,
    Threads,
    apart,
    counts,
    fraction,
    names,
    quantity,
    share_or_count,
)

app = typer.Typer(
    name="sartor",
    rich_markup_mode=None,  # plain help: twice as fast as Rich's, and it can be copied
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_debug = False


def _set_debug(value: bool) -> bool:
    global _debug
    _debug = _debug or value
    return value


def _print_version(value: bool) -> None:
    if value:
        print(f"sartor {__version__}")
        raise typer.Exit


Debug = Annotated[
    bool, typer.Option("--debug", callback=_set_debug, is_eager=True, help="Show the traceback of an error.")
]


# --- the verbs --------------------------------------------------------------------------------------------------------


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Cut neural networks to fit: from your images and a budget to a measured front of exported networks.

    \b
    Start here:
      sartor fit photos/ --max-latency 2ms --time 30m --out run
      sartor pick run --max-latency 1ms -o model
      sartor predict model new-photos/
    """
    if context.invoked_subcommand is None:
        print(context.get_help())


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


@app.command()
def measure(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="timm:NAME, an .onnx file, a model folder, or file.py:function."),
    ],
    target: Annotated[str, typer.Option(metavar="NAME", help="What runs and times the file.")] = "onnxruntime",
    threads: Threads = 1,
    runs: Annotated[int, typer.Option(min=1, metavar="N", help="Timed runs.")] = 200,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="Examples of one call.")] = 1,
    latency_model: LatencyModelFile = None,
    cuts: Annotated[
        bool, typer.Option("--cuts", help="Instead: what of it can be cut, what cannot, and why, layer by layer.")
    ] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Count and time a network, layer by layer: parameters, MACs, memory, latency.

    \b
    Examples:
      sartor measure timm:resnet18 --json
      sartor measure timm:swin_tiny_patch4_window7_224 --cuts
      sartor measure model/ --threads 2
      sartor measure nets.py:small --runs 1000
      sartor measure timm:resnet18 --latency-model laptop.json
    """
    if cuts:
        if (target, threads, runs, batch, latency_model) != ("onnxruntime", 1, 200, 1, None):
            raise InputError("--cuts times nothing: leave out --target, --threads, --runs, --batch, --latency-model")
        from sartor.measure.cuts import possible_cuts

        terminal.print_cuts(possible_cuts(model), as_json)
        return
    from sartor.measure.model import measure_model

    measured = measure_model(model, target=target, threads=threads, runs=runs, batch=batch, latency_model=latency_model)
    terminal.print_measured(measured, as_json)


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


@app.command()
def search(
    table: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="nb201:cifar10, nb201:cifar100, macro:cifar10, ofa:imagenet, graph:cora, or a .csv file of your own.",
        ),
    ],
    strategy: Annotated[
        str, typer.Option(metavar="NAME[,NAME]", help="Strategies, run side by side.")
    ] = "random,evolution,linas",
    budget: Annotated[int, typer.Option(min=1, metavar="N", help="Evaluations of each search.")] = 200,
    seeds: Annotated[int, typer.Option(min=1, metavar="K", help="Searches of each strategy.")] = 5,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="Archs proposed at a time.")] = 8,
    columns: Annotated[
        str | None, typer.Option(metavar="COL[,COL]", help="Of a .csv file: the columns that are choices.")
    ] = None,
    maximise: Annotated[str | None, typer.Option(metavar="COL[,COL]", help="Of a .csv file: more is better.")] = None,
    minimise: Annotated[
        str | None, typer.Option(metavar="COL[,COL]", help="Less is better: of a .csv file, or a table's latency.")
    ] = None,
    verdict: Annotated[
        str | None,
        typer.Option(metavar="max:COL", help="Of a .csv file: what judges the best found, which no search sees."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder that holds nas/, where $SARTOR_DATA is not set.")
    ] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", metavar="OUT", help="Write one object per strategy and seed.")
    ] = None,
    plot: Plot = None,
    debug: Debug = False,
) -> None:
    """Search tables of evaluated networks: strategies side by side, at equal cost, seed by seed.

    \b
    Examples:
      sartor search --table nb201:cifar10 --strategy random,evolution,linas --budget 200 --seeds 20
      sartor search --table nb201:cifar100 --minimise lat_ms_pixel2 --strategy nsga2,linas
      sartor search --table mine.csv --columns depth,width --maximise val --verdict max:test --json runs.json
      sartor search --table macro:cifar10 --strategy random,local --seeds 7 --plot race.svg
    """
    from sartor.disk import write_json
    from sartor.report.race import check_picture, write_race
    from sartor.search.audit.read import traces_of
    from sartor.search.contest import contest, summary
    from sartor.search.named import strategy_of
    from sartor.search.tables import open_table

    chosen = list(dict.fromkeys(names(strategy)))
    if not chosen:
        raise InputError("--strategy names none: give one, at least")
    for name in chosen:
        strategy_of(name)
    if plot is not None:
        check_picture(plot)
    apart([json_out, plot], [Path(table)])
    opened = open_table(
        table, columns=names(columns), maximise=names(maximise), minimise=names(minimise), verdict=verdict, data=data
    )
    if plot is not None:
        _ = opened.problem  # before the work: with fidelities there is none to draw
    runs: list[dict[str, Any]] = []
    try:
        if json_out is not None and not json_out.is_file():  # what is there stays until there is something new
            write_json(json_out, runs)  # before hours of work, not after them, it shows that there is no place for it
        for found in terminal.with_progress(contest(opened, chosen, budget, seeds, batch=batch), len(chosen) * seeds):
            runs.append(found)
    finally:
        if json_out is not None and runs:
            write_json(json_out, runs)
        if plot is not None and runs:
            write_race(plot, *traces_of(runs))
    terminal.print_contest(opened, summary(opened, runs))


@app.command()
def audit(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[SOURCES…]",
            help="Files that search --json wrote, folders of fits, or SQLite files of Optuna studies: of one problem.",
        ),
    ] = None,
    table: Annotated[
        str | None, typer.Option(metavar="NAME", help="Instead: a table as for search, searched on the spot.")
    ] = None,
    strategy: Annotated[
        str | None, typer.Option(metavar="NAME[,NAME]", help="With --table: strategies. Default: evolution,linas.")
    ] = None,
    budget: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="With --table: evaluations of each search. Default: 100.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, metavar="K", help="With --table: searches of each strategy. Default: 10.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="With --table: archs proposed at a time. Default: 8.")
    ] = None,
    columns: Annotated[str | None, typer.Option(metavar="COL[,COL]", help="Of a .csv file, as for search.")] = None,
    maximise: Annotated[str | None, typer.Option(metavar="COL[,COL]", help="Of a .csv file, as for search.")] = None,
    minimise: Annotated[str | None, typer.Option(metavar="COL[,COL]", help="As for search.")] = None,
    verdict: Annotated[str | None, typer.Option(metavar="max:COL", help="Of a .csv file, as for search.")] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder that holds nas/, where $SARTOR_DATA is not set.")
    ] = None,
    poison: Annotated[
        str | None, typer.Option(metavar="N[,N]", help="With --table: so many bad options more in each choice.")
    ] = None,
    poison_with: Annotated[
        str | None,
        typer.Option(metavar="copies|worst", help="With --poison: of the least effective option, or the worst archs."),
    ] = None,
    setting: Annotated[
        str | None, typer.Option(metavar="CHOICE", help="With --table: do ranks hold between its options, as depths?")
    ] = None,
    random: Annotated[
        str | None, typer.Option(metavar="NAME", help="With SOURCES: which strategy, or study, is random search.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="OUT.html", help="Write the page.")] = None,
    json_out: Annotated[
        Path | None, typer.Option("--json", metavar="OUT", help="Write the audit, for programs.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Was a search worth it? Beside the average random arch and random search at equal cost, over seeds.

    \b
    Examples:
      sartor audit runs.json -o audit.html
      sartor audit run1 run2 run3
      sartor audit --table nb201:cifar10 --strategy evolution,local --budget 100 --seeds 10 --poison 1,3
    """
    from sartor.disk import write_atomic, write_json
    from sartor.recipes.audit import audit_files, audit_table
    from sartor.report.audit import html_page

    asked = {
        "--strategy": strategy, "--budget": budget, "--seeds": seeds, "--batch": batch, "--columns": columns,
        "--maximise": maximise, "--minimise": minimise, "--verdict": verdict, "--data": data, "--poison": poison,
        "--poison-with": poison_with, "--setting": setting,
    }  # fmt: skip
    given = [name for name, value in asked.items() if value is not None]
    if (table is None) == (not sources):
        raise InputError("give what to audit: SOURCES that were written down, or --table to search on the spot")
    if sources and given:
        raise InputError(f"{', '.join(given)} {'is' if len(given) == 1 else 'are'} for --table, not for files")
    if poison_with is not None and poison is None:
        raise InputError("--poison-with says what to poison with: give --poison, how much")
    if random is not None and table is not None:
        raise InputError("--random names the random search of SOURCES: with --table it is run beside the others")
    if out is not None and out.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--out writes a page: call it {out.stem}.html, not {out.name}")
    apart([json_out, out], [*map(Path, sources or []), *([Path(table)] if table else [])])
    if table is None:
        found, problem, traces = audit_files(sources or [], baseline=random or "random")
    else:
        from sartor.search.tables import open_table

        chosen, added = names(strategy) or ["evolution", "linas"], counts(poison)
        tried = len({"random", *chosen}) * (seeds or 10)
        opened = open_table(
            table,
            columns=names(columns),
            maximise=names(maximise),
            minimise=names(minimise),
            verdict=verdict,
            data=data,
        )
        for place in (json_out, out):
            if place is not None and not place.is_file():
                write_atomic(place, "")  # before the work, not after it, it shows that there is no place for it
        found, problem, traces = audit_table(
            opened, chosen, budget or 100, seeds or 10,
            batch=batch or 8, poison=added, kind=poison_with or "copies",
            setting=setting, progress=lambda items: terminal.with_progress(items, tried),
        )  # fmt: skip
    if json_out is not None:
        write_json(json_out, found)
    if out is not None:
        write_atomic(out, html_page(found, problem, traces))
    terminal.print_audit(found)


@app.command()
def systems(
    missing: Annotated[bool, typer.Option("--missing", help="Only what is still open.")] = False,
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="Only one kind, such as pruning.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the published systems covered here: where each lives, which test shows it.

    \b
    Examples:
      sartor systems
      sartor systems --missing --kind pruning
    """
    from sartor.systems import select

    terminal.print_systems(select(missing=missing, kind=kind), as_json)


# --- errors -----------------------------------------------------------------------------------------------------------

# What a wrong option raises. Click's class, which newer Typers carry inside and older ones import: this names both.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def _run(arguments: list[str] | None) -> int:
    """The exit code of one command line. Raises what went wrong when --debug was given."""
    try:
        with contextlib.suppress(ValueError):  # only the main thread may
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill stops as Ctrl-C does
        # Not Typer's own error boxes: one line, the same for a wrong option, a broken file and a bug.
        code = app(arguments, prog_name="sartor", standalone_mode=False)
        sys.stdout.flush()
    except _UsageError as usage:
        error: Any = usage  # Click's attributes, which the base class above does not tell mypy
        terminal.fail(f"{error.format_message()} (see: {error.ctx.command_path if error.ctx else 'sartor'} --help)")
        return 2
    except SartorError as wrong:
        if _debug:
            raise
        terminal.fail(str(wrong))
        return wrong.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at exit
        return 1
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as bug:
        if _debug:
            raise
        terminal.fail(f"{type(bug).__name__}: {bug} (a bug: run again with --debug and report the traceback)")
        return 1
    if code == 130:
        terminal.fail("stopped")
    return code if isinstance(code, int) else 0


def main() -> None:
    """The ``sartor`` command."""
    sys.exit(_run(None))


if __name__ == "__main__":
    main()
