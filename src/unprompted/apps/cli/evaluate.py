"""``unprompted evaluate``: predictions against references."""

from pathlib import Path
from typing import Annotated

from typer import Option

from unprompted.apps.cli import options
from unprompted.apps.cli.render import Screen


def evaluate(
    predictions: Annotated[Path, Option("--predictions", "-p", help="Folder of predicted label maps.")],
    references: Annotated[
        Path, Option("--references", "-r", help="Folder of reference label maps, or a dataset with labels.")
    ],
    output: Annotated[
        Path | None, Option("--output", "-o", help="Folder for summary.json, metrics.csv and summary.md.")
    ] = None,
    labels: options.Labels = None,
    partial: Annotated[
        bool, Option("--partial/--no-partial", help="Leave out references without a prediction.")
    ] = False,
    tolerance: Annotated[
        float, Option("--tolerance", help="How far apart in mm surfaces may lie for NSD.", min=0.0)
    ] = 1.0,
    mm: Annotated[
        bool | None,
        Option("--mm/--no-mm", help="Distances and volumes too. Default: where images have a voxel size."),
    ] = None,
    json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Measure Dice, IoU, NSD, HD95, HD, MASD and volume error per class and case."""
    from unprompted.evaluation.files import case_table, class_table, write_summary
    from unprompted.evaluation.folders import evaluate_folders

    with Screen(quiet or json, verbose, debug) as screen:
        found = evaluate_folders(
            predictions, references, labels or (), partial, screen.progress, tolerance, mm
        )
        for note in found.notes:
            screen.say("note", note)
        screen.table(*case_table(found.summary))
        screen.table(*class_table(found.summary))
        if json:
            screen.json(found.summary)
        if output is not None:
            write_summary(output, found.summary)
            screen.say("written", f"{output}/summary.json, metrics.csv and summary.md")
