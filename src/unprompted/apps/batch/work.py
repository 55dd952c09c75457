"""One model and the cases it is given: reading the next and writing the last overlap with computing."""

import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unprompted.apps.batch.choices import ModelChoice
from unprompted.apps.batch.explain import write_explanation
from unprompted.apps.batch.outcome import Outcome, failed
from unprompted.apps.batch.records import CASES, EXPLAIN, OVERLAYS, Records
from unprompted.datasets.base import CaseFiles
from unprompted.datasets.folder import load_case
from unprompted.errors import DataRefused
from unprompted.images import LabelMap, Volume
from unprompted.io.forms import result_path, write_result
from unprompted.io.overlay import overlay_png
from unprompted.io.store import Store
from unprompted.prediction import PredictedDice, Prediction

if TYPE_CHECKING:
    from unprompted.engine.limits import Limits
    from unprompted.quality import QualityCheck
    from unprompted.segmenter import FittedSegmenter

Progress = Callable[[float], None]


@dataclass(frozen=True, eq=False)
class Made:
    """What computing gave for a case, not written yet."""

    case: CaseFiles
    shown: Volume
    sliced: LabelMap
    prediction: Prediction
    judged: tuple[PredictedDice, ...]


@dataclass(frozen=True, eq=False)
class CaseWorker:
    """A fitted task with the place its results go to.

    Attributes:
        check: the task, and what predicts the Dice of its results.
        records: of the output folder.
        limits: what a sweep may hold; None for the usual.
    """

    check: "QualityCheck"
    records: Records
    limits: "Limits | None" = None

    def work_through(
        self,
        cases: Iterable[CaseFiles],
        done: Callable[[Outcome], None],
        progress: Progress = lambda part: None,
    ) -> None:
        """Segment cases; one is read ahead and one may still be written while another is computed.

        Args:
            cases: taken one by one, in the thread that reads; it may wait for more to come.
            done: told how each case ended, in order, in the calling thread.
            progress: told how much of the current case is computed, 0..1.

        Raises:
            StorageFull: no more results fit.
        """
        coming, written = iter(cases), deque[Future[Outcome]]()
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            ahead = reader.submit(self._read, coming)
            try:
                while True:
                    _tell_until(ahead, written, done)
                    found = ahead.result()
                    if found is None:
                        break
                    ahead = reader.submit(self._read, coming)
                    written.append(self._compute(*found, writer, progress))
                    while len(written) > 1:
                        done(written.popleft().result())
            finally:
                for outcome in written:
                    done(outcome.result())

    def _read(self, coming: Iterator[CaseFiles]) -> "tuple[CaseFiles, Volume | Exception] | None":
        case = next(coming, None)
        if case is None:
            return None
        try:
            self._refuse_name(case)
            return case, load_case(case)[0]
        except Exception as error:  # whatever it is, the other cases go on
            return case, error

    def _refuse_name(self, case: CaseFiles) -> None:
        target = result_path(Path(), case.name, case.image, self.records.form).name
        if target in (CASES, OVERLAYS, EXPLAIN):
            raise DataRefused(f"{target} cannot be the name of a case: a folder of the results is called so")

    def _compute(
        self, case: CaseFiles, volume: Volume | Exception, writer: ThreadPoolExecutor, progress: Progress
    ) -> Future[Outcome]:
        try:
            if isinstance(volume, Exception):
                raise volume
            return writer.submit(self._write, self._made(case, volume, progress))
        except Exception as error:
            outcome: Future[Outcome] = Future()
            outcome.set_result(failed(case.name, error))
            return outcome

    def _made(self, case: CaseFiles, volume: Volume, progress: Progress) -> Made:
        task = self.check.task
        shown = volume.sliced_along(task.axis)
        done = 0

        def on_frame(position: int, labels: object, quality: object) -> None:
            nonlocal done
            done += 1
            progress(done / shown.grid.shape[0])

        prediction = task.segment(volume, on_frame, self.limits)
        cut = prediction.labels if volume.axis == "t" else prediction.labels.sliced_along(task.axis)
        return Made(case, shown, cut, prediction, self.check.judge(volume, prediction))

    def _write(self, made: Made) -> Outcome:
        try:
            return self._written(made)
        except Exception as error:
            return failed(made.case.name, error)

    def _written(self, made: Made) -> Outcome:
        task, case = self.check.task, made.case
        with self.records.store.scratch() as scratch:
            form, prediction = self.records.form, made.prediction
            target = result_path(scratch, case.name, case.image, form)
            write_result(prediction.labels, prediction.confidence, target, case.image, form)
            overlay_png(made.shown, made.sliced, scratch / OVERLAYS / f"{case.name}.png", task.intensity)
            if self.records.explain and made.prediction.chosen:
                folder, support = scratch / EXPLAIN, task.support
                write_explanation(folder, made.shown, made.sliced, made.prediction, support, task.intensity)
            return self.records.case_is_written(scratch, case, made.prediction, made.sliced, made.judged)


def _tell_until(ahead: Future[Any], written: deque[Future[Outcome]], done: Callable[[Outcome], None]) -> None:
    """Tell what is written while the next case is awaited: it may come only when that is told."""
    while written and not ahead.done():
        wait([ahead, written[0]], return_when=FIRST_COMPLETED)
        if written[0].done():
            done(written.popleft().result())


@dataclass(frozen=True, eq=False)
class Order:
    """What a worker in another process needs; it travels by pickle, between our own processes only.

    Attributes:
        task: the files of a saved task, by their path in it.
        model: where its backbone comes from, and where it runs.
        store: where results go.
        configuration: of the run.
        explain: whether to write which support every slice was given.
        round_trip: whether to predict Dice by the way back, too.
        form: of the label maps.
    """

    task: Mapping[str, bytes] = field(repr=False)
    model: ModelChoice
    store: Store
    configuration: Mapping[str, Any]
    explain: bool
    round_trip: bool
    form: str

    @classmethod
    def of(cls, task: "FittedSegmenter", model: ModelChoice, records: Records, round_trip: bool) -> "Order":
        """The order for more workers that do as this task does."""
        with tempfile.TemporaryDirectory(prefix="unprompted-") as folder:
            task.save(Path(folder))
            files = {path.name: path.read_bytes() for path in Path(folder).iterdir()}
        kept = (records.store, records.configuration, records.explain)
        return cls(files, model, *kept, round_trip, records.form)

    def worker(self, device: str) -> CaseWorker:
        """A worker with a model of its own.

        Raises:
            WeightsUnavailable: the backbone is not on this machine, or is another one.
        """
        from unprompted.loading import load_backbone
        from unprompted.quality import QualityCheck
        from unprompted.segmenter import FittedSegmenter
        from unprompted.task import read_task

        with tempfile.TemporaryDirectory(prefix="unprompted-") as folder:
            for name, content in self.task.items():
                (Path(folder) / name).write_bytes(content)
            description = read_task(Path(folder))
            backbone = load_backbone(
                self.model.backbone or description["backbone"],
                input_size=description["input_size"],
                device=device,
                dtype=self.model.dtype,
                memory_pool=self.model.memory_pool,
            )
            task = FittedSegmenter.load(Path(folder), backbone)
        records = Records(self.store, self.configuration, task.support.classes, self.explain, self.form)
        return CaseWorker(QualityCheck.of(task, self.round_trip), records)
