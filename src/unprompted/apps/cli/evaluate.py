"""``unprompted evaluate``: predictions against references."""

from pathlib import Path
from typing import Annotated

from typer import Option

from unprompted.apps.cli import options, render
from unprompted.apps.cli.render import Screen


def evaluate(
    predictions: Annotated[Path, Option("--predictions", "-p", help="Folder of predicted label maps.")],
    references: Annotated[
        Path, Option("--references", "-r", help="Folder of reference label maps, or a dataset with labels.")
    ],
    output: Annotated[
        Path | None, Option("--output", "-o", help="Folder for summary.json and metrics.csv.")
    ] = None,
    labels: options.Labels = None,
    partial: Annotated[
        bool, Option("--partial/--no-partial", help="Leave out references without a prediction.")
    ] = False,
    json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Measure Dice and IoU per class and case."""
    from unprompted.evaluation.folders import evaluate_folders
    from unprompted.evaluation.summary import write_summary

    with Screen(quiet or json, verbose, debug) as screen:
        found = evaluate_folders(predictions, references, labels or (), partial, screen.progress)
        for note in found.notes:
            screen.say("note", note)
        render.case_table(screen, found.summary)
        render.dice_table(screen, found.summary)
        if json:
            screen.json(found.summary)
        if output is not None:
            write_summary(output, found.summary)
            screen.say("written", f"{output}/summary.json and metrics.csv")
