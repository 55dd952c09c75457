"""``unprompted pretrain``: the built-in backbone, made again from generated data."""

import csv
import os
from pathlib import Path
from typing import Annotated

import typer

from unprompted.apps.cli import options
from unprompted.apps.cli.render import Screen
from unprompted.errors import UsageError
from unprompted.registry import DEFAULT_BACKBONE


def pretrain(
    output: Annotated[Path, typer.Option("--output", "-o", help="Checkpoint and log; resumed where there.")],
    recipe: Annotated[str, typer.Option("--recipe", help="Name of a recipe.")] = DEFAULT_BACKBONE,
    workers: Annotated[int, typer.Option("--workers", help="Processes that generate data.")] = 0,
    initial: Annotated[
        Path | None, typer.Option("--from", help="Safetensors file whose weights a new run starts from.")
    ] = None,
    until: Annotated[
        int | None, typer.Option("--until", help="Stop after this step; 0 trains nothing.")
    ] = None,
    export: Annotated[Path | None, typer.Option("--export", help="Write the model to this folder.")] = None,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Pretrain a backbone on generated anatomy; run again to go on."""
    from unprompted.loading import resolve_device
    from unprompted.training import pretrain as training
    from unprompted.training.export import export as export_model
    from unprompted.training.recipes import RECIPES

    if recipe not in RECIPES:
        raise UsageError(f"no recipe is called {recipe!r}; known: {', '.join(RECIPES)}")
    chosen, place = RECIPES[recipe], resolve_device(device)
    with Screen(quiet, verbose, debug) as screen:
        screen.say("recipe", f"{recipe}, {chosen.steps} steps, on {place}")

        def report(row: dict[str, float]) -> None:
            screen.say(f"step {row['step']:g}", f"Dice on held-out episodes {row['held_out_dice']:.3f}")
            screen.progress("pretraining", row["step"], until or chosen.steps)

        checkpoint = training.pretrain(
            chosen, output, device=place, workers=workers, until=until, initial=initial, report=report
        )
        if export is not None:
            hardware = f"{place}, {os.cpu_count()} CPU cores"
            dice = _last_dice(output / "log.csv")
            sha256 = export_model(checkpoint, export, chosen, recipe, hardware=hardware, dice=dice)
            screen.say("exported", f"{export}, sha256 {sha256}")


def _last_dice(log: Path) -> float | None:
    if not log.exists():  # nothing was trained
        return None
    with log.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return float(rows[-1]["held_out_dice"]) if rows else None
