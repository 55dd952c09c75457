"""``unprompted benchmark``: a recipe becomes results and a report."""

import os
from pathlib import Path
from typing import Annotated

import typer

from unprompted.apps.cli import options
from unprompted.apps.cli.render import Screen
from unprompted.errors import SomeCasesFailed


def benchmark(
    recipe: Annotated[Path, typer.Argument(help="A TOML file; benchmarks/ has some.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of results and report. Default: results/ beside it."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder of the datasets, instead of the recipe's.")
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", help="Cells side by side.", min=1)] = 1,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Run cells again whose result was made by other code.")
    ] = False,
    report_only: Annotated[
        bool, typer.Option("--report-only", help="Run nothing; write the report of the results there are.")
    ] = False,
    dry_run: options.DryRun = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Measure methods against each other on the same supports and queries; run again to go on."""
    threads = max(1, (os.cpu_count() or 1) // jobs)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # read by torch here and in every process
    from unprompted.evaluation.benchmark import Done, plan, run_benchmark
    from unprompted.evaluation.recipe import read_recipe
    from unprompted.evaluation.report import write_report

    chosen = read_recipe(recipe)
    folder = output or recipe.parent / "results"
    with Screen(quiet, verbose, debug) as screen:
        planned, failed = plan(chosen, data or recipe.parent / chosen.data, folder)
        there = sum(each.path.exists() for each in planned)
        screen.say("recipe", f"{chosen.title}: {len(planned)} cells, {there} with a result")
        for done in failed:
            screen.say("failed", f"{done.planned.cell.label}: {done.problem}")
        if dry_run:
            for each in planned:
                screen.say("there" if each.path.exists() else "missing", each.cell.label)
            return

        def tell(done: Done) -> None:
            label = done.planned.cell.label
            if done.result is None:
                screen.say("missing" if report_only else "failed", f"{label}: {done.problem}")
            else:
                dice = done.result["overall"]["Dice"]
                seconds = done.result["fit_s"] + done.result["segment_s"]
                state = ("result" if done.new else "there") if not done.outdated else "older code"
                score = "nothing to measure" if dice is None else f"Dice {dice:.3f}"
                screen.say(state, f"{label}: {score}, {seconds:.0f} s")

        outcomes = run_benchmark(
            planned,
            jobs,
            refresh=refresh,
            run=not report_only,
            progress=screen.progress,
            finished=tell,
        )
        for path in write_report(chosen, [*outcomes, *failed], folder, recipe.stem):
            screen.say("written", str(path))
    if report_only:
        return
    missing = sum(done.result is None for done in [*outcomes, *failed])
    if missing:
        raise SomeCasesFailed(f"{missing} of {len(planned) + len(failed)} cells have no result; see above")
