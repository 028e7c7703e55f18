"""Searches over tables, and whether a search was worth it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sartor import terminal
from sartor.cli.app import Debug, app
from sartor.cli.options import Plot, apart, counts, names
from sartor.errors import InputError


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
