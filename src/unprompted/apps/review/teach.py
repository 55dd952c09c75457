"""Corrected slices join the support, and cases are segmented again with what they teach."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unprompted.apps.batch.choices import Watcher
from unprompted.apps.batch.records import Records
from unprompted.apps.review.cohort import Cohort, OpenCase, predicted_dice, quality_of
from unprompted.apps.review.store import Labels, Store
from unprompted.errors import UsageError
from unprompted.images import LabelMap, Volume
from unprompted.io.store import FolderStore
from unprompted.support import Example

if TYPE_CHECKING:
    from unprompted.segmenter import FittedSegmenter

# The façade imports torch, which takes seconds: it is imported when something is taught.


class Teacher:
    """The fitted task of a cohort, taught by what readers corrected; used by one thread.

    Args:
        cohort: the cases.
        store: what readers did to them.
        task: folder of the fitted task.
        device: where it runs.
    """

    def __init__(self, cohort: Cohort, store: Store, task: Path, device: str) -> None:
        self._cohort, self._store, self._folder, self._device = cohort, store, task, device
        self._task: FittedSegmenter | None = None
        self._taught: tuple[tuple[tuple[str, int, int], ...], FittedSegmenter] | None = None
        self._examples: dict[tuple[str, int, int], Example] = {}

    def segment(self, keys: Sequence[str], watch: Watcher) -> list[dict[str, Any]]:
        """Segment cases again with all that was corrected so far; what changed, case by case.

        Corrected slices keep their labels.

        Raises:
            UnpromptedError: the task cannot be loaded, or an image not be read.
        """
        watch.progress("learning from corrections", 0, 1)
        task = self._task_taught()
        return [self._segment(task, key, watch, i, len(keys)) for i, key in enumerate(keys)]

    def warm_up(self) -> None:
        """Load the task, so that teaching need not wait for it."""
        self._fitted()

    def _fitted(self) -> "FittedSegmenter":
        from unprompted.segmenter import FittedSegmenter

        if self._task is None:
            task = FittedSegmenter.load(self._folder, device=self._device)
            if task.axis != self._cohort.axis or task.support.classes != self._cohort.classes:
                raise UsageError("the task does not belong to these results: slice axis or classes differ")
            self._task = task
        return self._task

    def _task_taught(self) -> "FittedSegmenter":
        wanted = self._labelled()
        if self._taught is None or self._taught[0] != wanted:
            self._read_examples(wanted)
            self._taught = wanted, self._fitted().taught(*(self._examples[one] for one in wanted))
        return self._taught[1]

    def _labelled(self) -> tuple[tuple[str, int, int], ...]:
        """Case, slice and version of what teaches: corrected slices, and corrected cases once accepted."""
        found: list[tuple[str, int, int]] = []
        for key, name in self._store.names.items():
            state = self._store.state(key)
            numbers: Sequence[int] = sorted(state.slices)
            if numbers and state.status == "accepted":
                numbers = range(len(quality_of(self._cohort.record(name))[0]))
            found += [(key, n, state.slices.get(n, state.segmented)) for n in numbers]
        return tuple(found)

    def _read_examples(self, wanted: Sequence[tuple[str, int, int]]) -> None:
        new = [one for one in wanted if one not in self._examples]
        for key in dict.fromkeys(key for key, _, _ in new):
            name = self._store.names[key]
            volume, labels = (
                self._cohort.volume(name),
                self._cohort.opened(name, self._store, key).labels.labels,
            )
            window = self._cohort.intensity.bounds([volume.voxels])
            for one in new:
                if one[0] == key:
                    self._examples[one] = example_of(volume, one[1], labels[one[1]].copy(), window)

    def _segment(
        self, task: "FittedSegmenter", key: str, watch: Watcher, number: int, of: int
    ) -> dict[str, Any]:
        cohort, store, name = self._cohort, self._store, self._store.names[key]
        volume = cohort.volume(name)
        done, depth = 0, len(volume.voxels)

        def on_frame(position: int, labels: object, quality: object) -> None:
            nonlocal done
            done += 1
            watch.progress("segmenting again", number + done / depth, of)

        prediction = task.segment(volume, on_frame)
        found: Labels = prediction.labels.labels
        case = cohort.opened(name, store, key)
        before, quality = case.labels.labels, prediction.quality.copy()
        with store.writing():
            kept = store.corrections(key)
            case = cohort.put(name, case, {n: kept.get(n, found[n]) for n in range(depth)})
            quality[list(kept)] = 1.0
            labels = LabelMap(case.labels.labels, volume.grid, cohort.classes)
            prediction = replace(prediction, labels=labels, quality=quality)
            was = predicted_dice(cohort.record(name))
            self._record(task, case, volume, prediction)
            state = store.was_segmented(key)
        changed = (before != labels.labels).sum(axis=(1, 2))
        return {
            "case": key,
            "version": state.version,
            "changed": [int(n) for n in changed],
            "slices": int((changed > 0).sum()),
            "voxels": int(changed.sum()),
            "classes": _differences(before, labels.labels, cohort.classes),
            "predicted_dice": [was, predicted_dice(cohort.record(name))],
            "taught": len(self._labelled()),
        }

    def _record(self, task: "FittedSegmenter", case: OpenCase, volume: Volume, prediction: Any) -> None:
        from unprompted.quality import QualityCheck

        cohort = self._cohort
        records = Records(FolderStore(cohort.folder), cohort.configuration, cohort.classes)
        judged = QualityCheck.of(task, round_trip=False).judge(volume, prediction)
        output = cohort.folder / cohort.record(case.files.name)["output"]
        records.case_is_corrected(output, case.files, prediction, prediction.labels, judged)
        records.write_quality()


def example_of(volume: Volume, number: int, labels: Labels, window: tuple[float, float]) -> Example:
    """A corrected slice of a case as an example to learn from.

    Args:
        volume: the case, cut along the slice axis.
        number: which slice.
        labels: ``(H, W)``.
        window: of the whole case, see `Example.window`.
    """
    grid = volume.grid
    return Example(
        np.array(volume.voxels[number], np.float32),
        labels,
        volume.name,
        number,
        grid.shape[0],
        grid.in_mm,
        grid.spacing,
        window=window,
    )


def _differences(before: Any, after: Any, classes: dict[int, str]) -> list[dict[str, Any]]:
    """Voxels of every class before and now, those that changed sides included."""
    found = []
    for value in classes:
        old, new = before == value, after == value
        found.append(
            {
                "value": value,
                "before": int(old.sum()),
                "now": int(new.sum()),
                "changed": int(np.logical_xor(old, new).sum()),
            }
        )
    return found
