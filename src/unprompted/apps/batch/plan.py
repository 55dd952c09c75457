"""What a run would do, for ``--dry-run``."""

from collections.abc import Sequence
from pathlib import Path

from unprompted.apps.batch.choices import Job, SupportChoice, Watcher
from unprompted.apps.batch.models import say_views
from unprompted.apps.batch.prepare import choose_queries, describe, read_support
from unprompted.datasets.base import CaseFiles
from unprompted.datasets.folder import recognise
from unprompted.datasets.pairing import listed
from unprompted.engine.views import Views
from unprompted.errors import UsageError
from unprompted.intensity import Intensity
from unprompted.io.forms import result_path
from unprompted.io.store import FolderStore, store_of
from unprompted.registry import AUTO_CANDIDATES, AUTO_METHOD, DEFAULT_BACKBONE


def plan(job: Job, watch: Watcher) -> None:
    """Say what `segment_folder` would do; no model is loaded, nothing is written.

    Raises:
        UnpromptedError: as `segment_folder` says, as far as it can be known without the model.
    """
    refuse_output(job)
    source = job.learn_from
    queries = (
        _say_support(source, job, watch)
        if isinstance(source, SupportChoice)
        else _say_task(source, job, watch)
    )
    targets = [result_path(Path(), case.name, case.image, job.form).name for case in queries]
    entries = {name.partition("/")[0] for name in store_of(job.output).sizes()}
    there = [target for target in targets if target in entries]
    watch.say("cases", f"{len(queries)}: {listed([case.name for case in queries])}")
    if job.ray is not None:
        watch.say("cluster", f"{job.given_workers or 'its'} workers at {job.ray}")
    elif job.workers > 1:
        watch.say("workers", f"{job.workers} on {', '.join(job.devices)}")
    watch.say("output", f"{job.output}: {listed(targets, 4)}")
    if there:
        watch.say("output", f"{len(there)} of these are there already: {listed(there, 4)}")
    watch.say("dry run", "no model was loaded and nothing was written")


def _say_support(choice: SupportChoice, job: Job, watch: Watcher) -> Sequence[CaseFiles]:
    from unprompted.loading import make_method, settings_of

    auto = job.model.method == AUTO_METHOD
    method = None if auto else make_method(job.model.method, dict(job.model.settings))
    learnable = read_support(choice, watch)
    job.model.views.check(learnable.support, learnable.axis)
    queries = choose_queries(job.queries, learnable, watch, job.series)
    describe(learnable, watch)
    if method is None:
        watch.say("method", f"the best on cases left out of {', '.join(AUTO_CANDIDATES)}")
    else:
        settings = ", ".join(f"{k} {v}" for k, v in settings_of(method).items() if not isinstance(v, dict))
        watch.say("method", f"{job.model.method} ({settings})")
    size = f"{job.model.input_size} pixels" if job.model.input_size else "its own input size"
    say_views(job.model.views, watch)
    watch.say("refinement", "on, where it helps a case left out" if job.model.refine else "off")
    if job.model.adapt:
        watch.say("adapt", f"the backbone to the support, for {job.model.adapt.describe()}")
    if job.model.adapters is not None:
        watch.say("adapters", f"those of the task {job.model.adapters}")
    watch.say("backbone", f"{job.model.backbone or DEFAULT_BACKBONE}, {size}, {job.model.device}")
    return queries


def _say_task(folder: Path, job: Job, watch: Watcher) -> Sequence[CaseFiles]:
    from unprompted.task import read_task

    description = read_task(folder)
    watch.say("task", f"{description['method']} on {description['backbone']}")
    say_views(Views.named(description.get("views", [])), watch)
    watch.say("refinement", "on" if description.get("refinement", {}).get("worlds") else "off")
    watch.say("classes", ", ".join(f"{value} {name}" for value, name in description["classes"].items()))
    watch.say("intensity", Intensity.from_dict(description["intensity"]).describe())
    layout = recognise(job.queries, need_labels=False, series=job.series)
    watch.say("queries", layout.note)
    return layout.cases


def refuse_output(job: Job) -> None:
    """Refuse an output that would mix results with what was given.

    Raises:
        UsageError: it is a file, or a folder of the input.
    """
    store = store_of(job.output)
    if not isinstance(store, FolderStore):
        return
    output = store.folder.resolve()
    given = [job.queries.resolve(), job.queries.resolve() / "images", job.queries.resolve() / "imagesTr"]
    source = job.learn_from.folder if isinstance(job.learn_from, SupportChoice) else job.learn_from
    if output in [*given, source.resolve()]:
        raise UsageError(f"{job.output} is an input folder too; results go to a folder of their own")
