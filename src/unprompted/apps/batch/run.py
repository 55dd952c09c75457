"""Segment every case of a folder: one model a device, one fit, each case written whole or not at all."""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unprompted.apps.batch.choices import Job, SupportChoice, Watcher
from unprompted.apps.batch.crew import Crew, work_off
from unprompted.apps.batch.keep import is_kept, keep_for_review
from unprompted.apps.batch.memory import limited, limits_for
from unprompted.apps.batch.outcome import Outcome
from unprompted.apps.batch.plan import refuse_output
from unprompted.apps.batch.prepare import choose_queries, describe, read_support
from unprompted.apps.batch.processes import ProcessCrew
from unprompted.apps.batch.ready import Ready, load_model, load_task
from unprompted.apps.batch.records import EXPLAIN, Records
from unprompted.apps.batch.work import CaseWorker, Order
from unprompted.datasets.base import CaseFiles
from unprompted.datasets.pairing import listed
from unprompted.errors import (
    DataRefused,
    SomeCasesFailed,
    StorageFull,
    UnpromptedError,
    UsageError,
    WeightsUnavailable,
)
from unprompted.io.store import FolderStore, Store, store_of

if TYPE_CHECKING:
    from unprompted.segmenter import FittedSegmenter

_LOG = logging.getLogger(__name__)
_BY_EXIT_CODE = {kind.exit_code: kind for kind in (UsageError, DataRefused, WeightsUnavailable)}


@dataclass(frozen=True, eq=False)
class RunReport:
    """How a run ended.

    Attributes:
        place: where the results are.
        outcomes: one a case, in order.
        elapsed_s: seconds of the whole run.
        content: all of it as JSON types.
    """

    place: str
    outcomes: tuple[Outcome, ...]
    elapsed_s: float
    content: dict[str, Any]

    def raise_for_failures(self) -> None:
        """Do nothing where every case is there.

        Raises:
            SomeCasesFailed: some cases failed, the others are written.
            UnpromptedError: all failed; the class is that of the first failure.
        """
        failed = [outcome for outcome in self.outcomes if outcome.status == "failed"]
        if not failed:
            return
        if len(failed) < len(self.outcomes):
            raise SomeCasesFailed(
                f"{len(failed)} of {len(self.outcomes)} cases failed, the others are in {self.place}: "
                + listed([f.case for f in failed])
            )
        first = failed[0]
        kind = _BY_EXIT_CODE.get(first.exit_code, UnpromptedError)
        if len(failed) == 1:
            raise kind(first.error)
        raise kind(f"all {len(failed)} cases failed; the first: {first.error}")


def segment_folder(job: Job, watch: Watcher) -> RunReport:
    """Segment every case of a folder that is not finished yet.

    A case that fails is reported and the others go on; `RunReport.raise_for_failures` tells.

    Raises:
        UsageError: the call is wrong, the output folder holds other results, or the model and the support
            leave too little of the memory allowed.
        DataRefused: support or queries cannot be used.
        WeightsUnavailable: the backbone cannot be loaded.
        StorageFull: no more results fit; those written stay.
    """
    begun = time.perf_counter()
    refuse_output(job)
    store = store_of(job.output)
    if isinstance(job.learn_from, SupportChoice):
        learnable = read_support(job.learn_from, watch)
        queries = choose_queries(job.queries, learnable, watch, job.series)
        describe(learnable, watch)
        ready = load_model(learnable, job.model, watch)
    else:
        ready = load_task(job.learn_from, job.model, watch)
        queries = choose_queries(job.queries, ready.learnable, watch, job.series)
        describe(ready.learnable, watch)
    classes = ready.learnable.support.classes
    records = Records(store, ready.configuration(), classes, job.explain, job.form)
    with store.locked():
        outcomes = _finish(job, ready, records, queries, watch)
    elapsed = time.perf_counter() - begun
    content = records.report(outcomes) | {"elapsed_s": round(elapsed, 3)}
    return RunReport(str(store), outcomes, elapsed, content)


def _finish(
    job: Job, ready: Ready, records: Records, queries: Sequence[CaseFiles], watch: Watcher
) -> tuple[Outcome, ...]:
    """How every case ended, after those that were missing have been segmented."""
    outcomes = {} if job.overwrite else records.finished(queries)
    if outcomes:
        watch.say("resume", f"{len(outcomes)} of {len(queries)} cases are finished already")
    todo = [case for case in queries if case.name not in outcomes]
    keeps = job.review and (bool(todo) or not is_kept(_folder_of(records.store)))
    task = ready.fitted(watch) if todo or keeps else None
    records.begin()
    if keeps and task is not None:
        saved = None if isinstance(job.learn_from, SupportChoice) else job.learn_from
        keep_for_review(_folder_of(records.store), job.queries, task, saved, job.series)

    def in_order() -> tuple[Outcome, ...]:
        return tuple(outcomes.get(case.name, Outcome(case.name, "not reached")) for case in queries)

    def done(outcome: Outcome) -> None:
        outcomes[outcome.case] = outcome
        _LOG.info("%s: %s, %.1f s", outcome.case, outcome.status, outcome.elapsed_s)
        if outcome.status == "failed":
            watch.say("failed", f"{outcome.case}: {outcome.error}")
        watch.progress("segmenting", len(outcomes) - before, len(todo))

    before = len(outcomes)
    try:
        if todo and task is not None:
            _segment(job, task, records, todo, done, watch)
    except BaseException:
        with suppress(OSError):  # what ended the run is what to tell, a full disk among it
            records.end(in_order())
        raise
    _ending(records, in_order())
    if job.explain and not any(name.startswith(f"{EXPLAIN}/") for name in records.store.sizes()):
        watch.say("explain", "nothing to explain: with this method no slice chooses its support")
    return in_order()


def _folder_of(store: Store) -> Path:
    if not isinstance(store, FolderStore):
        raise UsageError(f"results in {store} cannot be reviewed; leave --review out, or write to a folder")
    return store.folder


def _ending(records: Records, outcomes: Sequence[Outcome]) -> None:
    try:
        records.end(outcomes)
    except OSError as error:
        raise StorageFull(
            f"all cases are dealt with, but {records.store} takes no record ({error})"
        ) from error


def _segment(
    job: Job,
    task: "FittedSegmenter",
    records: Records,
    todo: Sequence[CaseFiles],
    done: Callable[[Outcome], None],
    watch: Watcher,
) -> None:
    """Segment here, in processes of this machine, or on a cluster."""
    if job.ray is None and job.workers == 1:
        from unprompted.quality import QualityCheck

        ended = 0

        def counted(outcome: Outcome) -> None:
            nonlocal ended
            ended += 1
            done(outcome)

        def progress(part: float) -> None:
            watch.progress("segmenting", min(ended + part, len(todo)), len(todo))

        check = QualityCheck.of(task, job.round_trip)
        limits = limits_for(job.max_memory, task)
        with limited(job.max_memory):
            CaseWorker(check, records, limits).work_through(todo, counted, progress)
        return
    order = Order.of(task, job.model, records, job.round_trip)
    crew: Crew
    if job.ray is not None:
        from unprompted.apps.batch.cluster import RayCrew

        crew = RayCrew(order, job.ray, job.model.device, job.given_workers)
        workers = crew.workers
        watch.say("cluster", f"{workers} workers on {crew.nodes} nodes of {job.ray}")
    else:
        workers = min(job.workers, len(todo))
        devices = job.devices or (job.model.device,)
        crew = ProcessCrew(order, devices, workers)
        watch.say("workers", f"{workers} on {', '.join(devices)}")
    work_off(crew, workers, todo, done, lambda text: watch.say("worker", text))
