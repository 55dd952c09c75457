"""One output folder under review: what the page shows of it, and what it may do to it."""

import threading
from pathlib import Path
from typing import Any

import numpy as np

from unprompted.apps.batch.keep import Sources
from unprompted.apps.review.cohort import Cohort, OpenCase, predicted_dice, quality_of
from unprompted.apps.review.jobs import Job, Jobs
from unprompted.apps.review.store import CaseState, Labels, Store
from unprompted.apps.review.suggest import expected_wrong, ranked
from unprompted.apps.review.teach import Teacher
from unprompted.errors import LabelRefused, UsageError
from unprompted.palette import hex_of


class Review:
    """An output folder that is open for review.

    Args:
        folder: what `unprompted segment` wrote.
        sources: where its images and its fitted task lie.
        device: where cases are segmented again.

    Raises:
        UsageError: the folder holds no results, its images are elsewhere, or it is open already.
        DataRefused: what is saved cannot be read.
    """

    def __init__(self, folder: Path, sources: Sources, device: str = "auto") -> None:
        self.cohort = Cohort(folder, sources)
        self.store = Store(folder, list(self.cohort.files))
        self.jobs = Jobs()
        self._folders = [folder, folder.resolve(), sources.images, *([sources.task] if sources.task else [])]
        self._warm = False
        self._teacher = Teacher(self.cohort, self.store, sources.task, device) if sources.task else None
        first = min(self.store.names, key=self._order)
        threading.Thread(target=self.opened, args=(first,), daemon=True).start()  # what the page opens with

    def opened(self, key: str) -> OpenCase:
        """A case in memory."""
        return self.cohort.opened(self.store.names[key], self.store, key)

    def overview(self) -> dict[str, Any]:
        """All cases, the one of lowest predicted Dice first, and the classes."""
        keys = sorted(self.store.names, key=self._order)
        classes = self.cohort.classes
        return {
            "cases": [self._summary(key) for key in keys],
            "classes": [{"value": v, "name": name, "colour": hex_of(v)} for v, name in classes.items()],
            "teaches": self._teacher is not None,
            "missing": self.cohort.missing,
        }

    def describe(self, key: str) -> dict[str, Any]:
        """What the page needs to draw a case, voxels aside."""
        case, record = self.opened(key), self.cohort.record(self.store.names[key])
        wire, quality = case.wire, quality_of(record)
        return self._summary(key) | {
            "shape": list(case.labels.labels.shape),
            "channels": 3 if wire.voxels.ndim == 4 else 1,
            "dtype": wire.voxels.dtype.name,
            "label_dtype": case.labels.labels.dtype.name,
            "slope": wire.slope,
            "offset": wire.offset,
            "windows": [{"name": name, "low": a, "high": b} for name, (a, b) in wire.windows.items()],
            "axis": wire.axis,
            "spacing": list(wire.spacing),
            "directions": wire.directions,
            "quality": np.round(quality[0].T, 3).tolist(),
            "pixels": quality[1].T.tolist(),
            "expected_wrong": np.round(expected_wrong(*quality), 1).tolist(),
            "class_dice": {name: one["dice"] for name, one in record.get("predicted_dice", {}).items()},
        }

    def suggestions(self) -> list[dict[str, Any]]:
        """What to correct next, by case key."""
        records = {key: self.cohort.record(name) for key, name in self.store.names.items()}
        states = {key: self.store.state(key) for key in self.store.names}
        found = ranked(records, states)
        return [{"case": one.case, "slice": one.slice, "wrong_pixels": one.wrong_pixels} for one in found]

    def correct(self, key: str, number: int, labels: Labels, expected: int) -> CaseState:
        """Save the labels of a corrected slice.

        Raises:
            LabelRefused: a label is no class.
            StaleVersion: the case was changed elsewhere.
        """
        unknown = sorted(set(np.unique(labels).tolist()) - {0, *self.cohort.classes})
        if unknown:
            raise LabelRefused(f"there is no class of label {unknown[0]}; use those of labels.json")
        case = self.opened(key)  # before the store is taken: who opens a case asks the store
        with self.store.writing():
            state = self.store.save_slice(key, number, labels, expected)
            self.cohort.put(self.store.names[key], case, {number: labels})
        if self._teacher and not self._warm:
            teacher, self._warm = self._teacher, True
            self.jobs.start(lambda job: teacher.warm_up())
        return state

    def segment(self, keys: list[str]) -> Job:
        """Segment cases again with all that was corrected.

        Raises:
            UsageError: there is no task to teach, or nothing was corrected.
        """
        teacher = self._teacher
        if teacher is None:
            raise UsageError("no fitted task is known; start the page with -t TASK for corrections to teach")
        if not any(self.store.state(key).slices for key in self.store.names):
            raise UsageError("nothing is corrected yet; correct and save a slice first")
        return self.jobs.start(lambda job: teacher.segment(keys, job))

    def without_folders(self, text: str) -> str:
        """A message for the page: files are named, the folders of this machine are not."""
        for folder in self._folders:
            text = text.replace(f"{folder}/", "").replace(str(folder), folder.name)
        return text

    def still_open(self) -> list[str]:
        """The cases that nobody has accepted or rejected, worst first."""
        keys = [key for key in self.store.names if self.store.state(key).status == "open"]
        return sorted(keys, key=self._order)

    def close(self) -> None:
        """End the work in hand and let another server have the folder."""
        self.jobs.close()
        self.store.close()

    def _summary(self, key: str) -> dict[str, Any]:
        name, state = self.store.names[key], self.store.state(key)
        record = self.cohort.record(name)
        return {
            "id": key,
            "name": name,
            "predicted_dice": predicted_dice(record),
            "review": [n for n, one in record.get("predicted_dice", {}).items() if one["review"]],
            "version": state.version,
            "status": state.status,
            "slices": {str(n): version for n, version in sorted(state.slices.items())},
        }

    def _order(self, key: str) -> tuple[float, str]:
        name = self.store.names[key]
        dice = predicted_dice(self.cohort.record(name))
        return (2.0 if dice is None else dice, name)
