"""Segment every case of a folder: one model, one fit, each case written whole or not at all."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unprompted.apps.batch.choices import Job, SupportChoice, Watcher
from unprompted.apps.batch.explain import write_explanation
from unprompted.apps.batch.keep import keep_for_review
from unprompted.apps.batch.plan import refuse_output
from unprompted.apps.batch.prepare import choose_queries, describe, read_support
from unprompted.apps.batch.ready import load_model, load_task
from unprompted.apps.batch.records import EXPLAIN, OVERLAYS, Outcome, Records
from unprompted.datasets.base import CaseFiles
from unprompted.datasets.folder import load_case
from unprompted.datasets.pairing import listed
from unprompted.errors import SomeCasesFailed, UnpromptedError
from unprompted.io.base import result_path, write_labels
from unprompted.io.overlay import overlay_png

if TYPE_CHECKING:
    from unprompted.quality import QualityCheck

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class RunReport:
    """How a run ended.

    Attributes:
        folder: where the results are.
        outcomes: one a case, in order.
        elapsed_s: seconds of the whole run.
        content: all of it as JSON types.
        errors: the exceptions of the failed cases, in order.
    """

    folder: Path
    outcomes: tuple[Outcome, ...]
    elapsed_s: float
    content: dict[str, Any]
    errors: tuple[Exception, ...] = ()

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
                f"{len(failed)} of {len(self.outcomes)} cases failed, the others are in {self.folder}: "
                + listed([f.case for f in failed])
            )
        first = self.errors[0]
        kind = type(first) if isinstance(first, UnpromptedError) else UnpromptedError
        if len(failed) == 1:
            raise kind(failed[0].error) from first
        raise kind(f"all {len(failed)} cases failed; the first: {failed[0].error}") from first


def segment_folder(job: Job, watch: Watcher) -> RunReport:
    """Segment every case of a folder that is not finished yet.

    A case that fails is reported and the others go on; `RunReport.raise_for_failures` tells.

    Raises:
        UsageError: the call is wrong, or the output folder holds other results.
        DataRefused: support or queries cannot be used.
        WeightsUnavailable: the backbone cannot be loaded.
    """
    begun = time.perf_counter()
    refuse_output(job)
    if isinstance(job.learn_from, SupportChoice):
        learnable = read_support(job.learn_from, watch)
        queries = choose_queries(job.queries, learnable, watch)
        describe(learnable, watch)
        ready = load_model(learnable, job.model, watch)
    else:
        ready = load_task(job.learn_from, job.model, watch)
        queries = choose_queries(job.queries, ready.learnable, watch)
        describe(ready.learnable, watch)
    records = Records(job.output, ready.configuration(), ready.learnable.support.classes, job.explain)
    outcomes = {} if job.overwrite else records.finished(queries)
    if outcomes:
        watch.say("resume", f"{len(outcomes)} of {len(queries)} cases are finished already")
    todo = [case for case in queries if case.name not in outcomes]
    errors: list[Exception] = []
    task = ready.fitted(watch) if todo else None
    records.begin()
    if job.review and task is not None:
        saved = None if isinstance(job.learn_from, SupportChoice) else job.learn_from
        keep_for_review(job.output, job.queries, task, saved)
    try:
        if task is not None:
            from unprompted.quality import QualityCheck

            check = QualityCheck.of(task, job.round_trip)
            _segment_all(check, todo, records, outcomes, errors, watch)
    finally:
        in_order = [outcomes.get(case.name, Outcome(case.name, "not reached")) for case in queries]
        records.end(in_order)
    elapsed = time.perf_counter() - begun
    content = records.report(in_order) | {"elapsed_s": round(elapsed, 3)}
    return RunReport(job.output, tuple(in_order), elapsed, content, tuple(errors))


def _segment_all(
    check: "QualityCheck",
    todo: Sequence[CaseFiles],
    records: Records,
    outcomes: dict[str, Outcome],
    errors: list[Exception],
    watch: Watcher,
) -> None:
    for number, case in enumerate(todo):
        try:
            outcome = _segment_one(check, case, records, watch, number, len(todo))
            outcomes[case.name] = outcome
            _LOG.info("%s: %.1f s, quality %s", case.name, outcome.elapsed_s, outcome.quality)
        except Exception as error:  # whatever it is, the other cases go on
            _LOG.debug("%s failed", case.name, exc_info=True)
            known = isinstance(error, UnpromptedError)
            words = str(error) if known else f"{type(error).__name__}: {error}"
            code = error.exit_code if isinstance(error, UnpromptedError) else 1
            outcomes[case.name] = Outcome(case.name, "failed", error=words, exit_code=code)
            errors.append(error)
            watch.say("failed", f"{case.name}: {words}")
        watch.progress("segmenting", number + 1, len(todo))


def _segment_one(
    check: "QualityCheck", case: CaseFiles, records: Records, watch: Watcher, number: int, of: int
) -> Outcome:
    task = check.task
    volume, _ = load_case(case)
    frames = volume.sliced_along(task.axis).grid.shape[0]
    done = 0

    def on_frame(position: int, labels: object, quality: object) -> None:
        nonlocal done
        done += 1
        watch.progress("segmenting", number + done / frames, of)

    prediction = task.segment(volume, on_frame)
    target = result_path(records.folder, case.name, case.image)
    write_labels(prediction.labels, target, case.image)
    shown = volume.sliced_along(task.axis)
    sliced = prediction.labels if volume.axis == "t" else prediction.labels.sliced_along(task.axis)
    overlay_png(shown, sliced, records.folder / OVERLAYS / f"{case.name}.png", task.intensity)
    if records.explain and prediction.chosen:
        folder = records.folder / EXPLAIN
        write_explanation(folder, shown, sliced, prediction, task.support, task.intensity)
    elif records.explain and number == 0:
        watch.say("explain", "nothing to explain: with this method no slice chooses its support")
    judged = check.judge(volume, prediction)
    return records.case_is_written(case, target.name, prediction, sliced, judged)
