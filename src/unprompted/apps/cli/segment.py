"""``unprompted segment`` and ``unprompted fit``."""

from collections.abc import Mapping
from pathlib import Path

from unprompted.apps.batch.choices import (
    AdaptBudget,
    Job,
    ModelChoice,
    SupportChoice,
    axis_letter,
    settings_of_call,
)
from unprompted.apps.cli import options
from unprompted.apps.cli.render import Screen
from unprompted.engine.views import Views
from unprompted.errors import UsageError
from unprompted.io.forms import AUTO, checked_form
from unprompted.launched import leads, several
from unprompted.registry import AUTO_METHOD, DEFAULT_METHOD


def segment(
    input: options.Input,
    output: options.Results,
    support: options.Support = None,
    task: options.Task = None,
    labels: options.Labels = None,
    axis: options.Axis = None,
    shots: options.Shots = None,
    sparse: options.Sparse = False,
    train: options.Train = None,
    patients: options.Patients = "",
    method: options.Method = None,
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
    device: options.Devices = "auto",
    workers: options.Workers = None,
    ray: options.Ray = None,
    series: options.Series = None,
    format: options.Format = AUTO,
    overwrite: options.Overwrite = False,
    explain: options.Explain = False,
    round_trip: options.RoundTrip = False,
    max_memory: options.MaxMemory = None,
    review: options.Review = False,
    dry_run: options.DryRun = False,
    report: options.Report = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Segment all images of a folder from a few labelled ones."""
    from unprompted.apps.batch.archives import at_hand
    from unprompted.apps.batch.memory import bytes_of
    from unprompted.apps.batch.plan import plan
    from unprompted.apps.batch.records import write_json
    from unprompted.apps.batch.run import segment_folder

    if several():
        raise UsageError(
            "several processes were started together, and they would write the same results; start `fit` so, "
            "then segment with -t in one process, with --device cuda:0,cuda:1 for several GPUs"
        )
    chosen = {"--method": method, "--set": set_, "--settings": settings}
    fixed = chosen | {
        "--input-size": input_size,
        "--views": views,
        "--adapt": adapt,
        "--no-refine": not refine,
    }
    learn_from = _source(support, task, fixed, labels, axis, shots, sparse, train, patients, seed)
    devices = tuple(device.split(","))
    model = model_of_call(
        method=method,
        pairs=set_,
        settings=settings,
        backbone=backbone,
        input_size=input_size,
        dtype=dtype,
        memory_pool=memory_pool,
        seed=seed,
        device=devices[0],
        views=views,
        adapt=adapt,
        refine=refine,
        adapters=adapters,
    )
    job = Job(
        input,
        output,
        model,
        learn_from,
        overwrite,
        explain,
        round_trip,
        bytes_of(max_memory),
        devices,
        workers,
        ray,
        series,
        checked_form(format),
        review,
    )
    with Screen(quiet, verbose, debug) as screen, at_hand(job, screen) as job:
        if dry_run:
            plan(job, screen)
            return
        run = segment_folder(job, screen)
        screen.finished(run.outcomes, run.elapsed_s, run.place)
    if report is not None:
        write_json(report, run.content)
    run.raise_for_failures()


def fit(
    support: options.Support,
    output: options.Output,
    labels: options.Labels = None,
    axis: options.Axis = None,
    shots: options.Shots = None,
    sparse: options.Sparse = False,
    train: options.Train = None,
    patients: options.Patients = "",
    method: options.Method = None,
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
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
    debug: options.Debug = False,
) -> None:
    """Learn from labelled cases once, and save the task for `segment -t`."""
    from unprompted.apps.batch.ready import fit_folder

    if support is None:
        raise UsageError("fit needs labelled cases; give their folder with -s")
    choice = SupportChoice(support, tuple(labels or ()), axis_letter(axis), shots, sparse, train, patients)
    model = model_of_call(
        method=method,
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
    with Screen(quiet or not leads(), verbose, debug) as screen:
        fit_folder(choice, model, output, overwrite, screen)
        screen.say("done", f"task saved; use it with: unprompted segment -t {output} -i IMAGES -o OUT")


def _source(
    support: Path | None,
    task: Path | None,
    fixed: Mapping[str, object],
    labels: list[str] | None,
    axis: str | None,
    shots: int | None,
    sparse: bool,
    train: Path | None,
    patients: str,
    seed: int,
) -> SupportChoice | Path:
    """The labelled cases or the fitted task: exactly one of them, and nothing a task has fixed already."""
    if (support is None) == (task is None):
        given = "both" if support else "neither"
        raise UsageError(f"give labelled cases with -s or a fitted task with -t; {given} given")
    if task is None:
        assert support is not None
        return SupportChoice(support, tuple(labels or ()), axis_letter(axis), shots, sparse, train, patients)
    own: dict[str, object] = {
        "--labels": labels,
        "--axis": axis,
        "--shots": shots,
        "--sparse": sparse,
        "--train": train,
    }
    own |= {"--patients": patients, "--seed": seed}
    said = [option for option, value in (*fixed.items(), *own.items()) if value]
    if said:
        raise UsageError(f"a fitted task has its {', '.join(said)} already; leave it out, or fit again")
    return task


def model_of_call(
    *,
    method: str | None,
    pairs: list[str] | None,
    settings: Path | None,
    backbone: str | None,
    input_size: int | None,
    dtype: str,
    memory_pool: int,
    seed: int,
    device: str,
    views: str | None,
    adapt: str | None,
    refine: bool,
    adapters: Path | None,
) -> ModelChoice:
    """What segments, from the words of a call.

    Raises:
        UsageError: settings are given though the method is not, or a word means nothing.
    """
    name = method or DEFAULT_METHOD
    if name == AUTO_METHOD and (pairs or settings):
        raise UsageError(
            "settings belong to one method; name it with --method, or leave --set and --settings out"
        )
    chosen = settings_of_call(pairs or (), settings, name)
    looks, budget = Views.named(views or ""), AdaptBudget.of(adapt)
    return ModelChoice(
        name, chosen, backbone, input_size, device, dtype, memory_pool, seed, looks, budget, refine, adapters
    )
