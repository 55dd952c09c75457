"""``unprompted demo``."""

from pathlib import Path
from typing import Annotated

from typer import Option

from unprompted.apps.batch.choices import ModelChoice, settings_of_call
from unprompted.apps.cli import options
from unprompted.apps.cli.render import Screen
from unprompted.registry import DEFAULT_METHOD


def demo(
    output: Annotated[Path, Option("--output", "-o", help="Folder for data and results.")] = Path("demo"),
    method: options.Method = None,
    set_: options.Set = None,
    settings: options.Settings = None,
    backbone: options.Backbone = None,
    refine: options.Refine = True,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Generate patients, segment them from three labelled ones, and measure against the truth."""
    from unprompted.apps.batch.demo import demonstrate
    from unprompted.evaluation.files import class_table

    name = method or DEFAULT_METHOD
    chosen = settings_of_call(set_ or (), settings, name)
    model = ModelChoice(name, chosen, backbone, device=device, seed=seed, refine=refine)
    with Screen(quiet, verbose, debug) as screen:
        made = demonstrate(output, model, screen)
        screen.table(*class_table(made.summary))
        screen.say("look at", f"{made.picture} (image, truth, prediction) and {made.folder / 'masks'}")
