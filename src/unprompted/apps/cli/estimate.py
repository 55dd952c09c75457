"""``unprompted estimate``: what Dice to expect, from the labelled cases alone."""

from typing import Annotated

from typer import Option

from unprompted.apps.batch.choices import SupportChoice, axis_letter
from unprompted.apps.cli import options, render
from unprompted.apps.cli.render import Screen
from unprompted.apps.cli.segment import model_of_call
from unprompted.errors import UsageError
from unprompted.registry import AUTO_CANDIDATES, AUTO_METHOD, DEFAULT_METHOD


def estimate(
    support: options.Support,
    labels: options.Labels = None,
    axis: options.Axis = None,
    shots: options.Shots = None,
    sparse: options.Sparse = False,
    patients: options.Patients = "",
    method: Annotated[
        str | None,
        Option(
            "--method",
            help=f"Methods to compare, separated by commas, or {AUTO_METHOD} for "
            f"{', '.join(AUTO_CANDIDATES)}. Default: {DEFAULT_METHOD}.",
            show_default=False,
        ),
    ] = None,
    set_: options.Set = None,
    settings: options.Settings = None,
    backbone: options.Backbone = None,
    input_size: options.InputSize = None,
    views: options.Views = None,
    adapt: options.Adapt = None,
    refine: options.Refine = True,
    adapters: options.Adapters = None,
    dtype: options.Dtype = "float32",
    memory_pool: options.MemoryPool = 1,
    seed: options.Seed = 0,
    device: options.Device = "auto",
    json: options.AsJson = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Tell what Dice to expect: leave labelled cases out in turn, segment them from the others."""
    from unprompted.apps.batch.estimate import estimate_folder

    if support is None:
        raise UsageError("estimate needs labelled cases; give their folder with -s")
    names = [word.strip() for word in (method or DEFAULT_METHOD).split(",") if word.strip()]
    names = list(AUTO_CANDIDATES) if AUTO_METHOD in names else list(dict.fromkeys(names))
    one = names[0] if len(names) == 1 else AUTO_METHOD
    choice = SupportChoice(support, tuple(labels or ()), axis_letter(axis), shots, sparse, patients=patients)
    model = model_of_call(
        method=one,
        pairs=set_,
        settings=settings,
        backbone=backbone,
        input_size=input_size,
        dtype=dtype,
        memory_pool=memory_pool,
        seed=seed,
        device=device,
        views=views,
        adapt=adapt,
        refine=refine,
        adapters=adapters,
    )
    with Screen(quiet or json, verbose, debug) as screen:
        found = estimate_folder(choice, model, names, screen)
        render.estimate(screen, found)
        if json:
            screen.json(found.as_dict())
