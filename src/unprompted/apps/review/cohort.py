"""The results of a run as the page shows them: which cases there are, how sure they are, their voxels."""

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unprompted.apps.batch.keep import Sources
from unprompted.apps.batch.records import CASES, RUN
from unprompted.apps.review.store import Labels, Store
from unprompted.apps.review.wire import Wire
from unprompted.datasets.base import CaseFiles
from unprompted.datasets.folder import load_case, recognise
from unprompted.errors import DataRefused, GeometryMismatch, UsageError
from unprompted.geometry import Grid, reordering_between
from unprompted.images import LabelMap, Volume
from unprompted.intensity import Intensity
from unprompted.io.base import read_labels
from unprompted.io.forms import form_of, write_result
from unprompted.io.labels import sized_labels

_KEPT = 3  # cases held in memory


@dataclass(frozen=True, eq=False)
class OpenCase:
    """One case in memory, cut along the slice axis of the run.

    Attributes:
        files: where it lies.
        wire: the image as the page gets it.
        labels: its labels, corrections included.
        written: the grid of the label map on disk.
    """

    files: CaseFiles
    wire: Wire
    labels: LabelMap
    written: LabelMap


class Cohort:
    """The cases of one output folder.

    Args:
        folder: what `unprompted segment` wrote.
        sources: where its images lie.

    Raises:
        UsageError: the folder holds no results, or none of its images is there.
        DataRefused: its records cannot be read.
    """

    def __init__(self, folder: Path, sources: Sources) -> None:
        self.folder = folder
        self.configuration = run_of(folder)
        layout = recognise(sources.images, need_labels=False, series=sources.series)
        images = {case.name: case for case in layout.cases}
        found = [name for name in finished(folder) if name in images]
        if not found:
            raise UsageError(
                f"none of the images of {sources.images} belongs to a result in {folder}; give the images "
                "that were segmented with -i"
            )
        self.files = {name: images[name] for name in found}
        self.missing = len(finished(folder)) - len(found)
        self._open: OrderedDict[str, OpenCase] = OrderedDict()
        self._lock = threading.Lock()
        self._opening: dict[str, threading.Lock] = {name: threading.Lock() for name in found}

    @cached_property
    def classes(self) -> dict[int, str]:
        """Label value to class name."""
        return {int(value): name for value, name in self.configuration["classes"].items()}

    @property
    def axis(self) -> str | None:
        """The slice axis, None for pictures and videos."""
        axis: str | None = self.configuration["axis"]
        return axis

    @property
    def intensity(self) -> Intensity:
        """How the model saw stored values."""
        return Intensity.from_dict(self.configuration["intensity"])

    def record(self, name: str) -> dict[str, Any]:
        """What the run wrote about a case."""
        return record_of(self.folder, name)

    def volume(self, name: str) -> Volume:
        """The image of a case, cut along the slice axis."""
        return load_case(self.files[name])[0].sliced_along(self.axis)

    def opened(self, name: str, store: Store, key: str) -> OpenCase:
        """A case in memory, corrections included.

        Raises:
            DataRefused: image or labels cannot be read.
        """
        with self._opening[name]:
            with self._lock:
                if name in self._open:
                    self._open.move_to_end(name)
                    return self._open[name]
            case = self._read(name)
            missing = {
                number: labels
                for number, labels in store.corrections(key).items()
                if (case.labels.labels[number] != labels).any()
            }
            if missing:  # the server was killed before the label map was written, or the run was repeated
                return self.put(name, case, missing)
            return self._keep(name, case)

    def put(self, name: str, case: OpenCase, slices: Mapping[int, Labels]) -> OpenCase:
        """The case with other labels on some slices, which the label map on disk has then too."""
        array: Any = case.labels.labels.copy()
        for number, labels in slices.items():
            array[number] = labels
        back = reordering_between(case.labels.grid, case.written.grid)
        whole = LabelMap(back.apply(array), case.written.grid, self.classes)
        path = self.folder / self.record(name)["output"]
        write_result(whole, None, path, case.files.image, form_of(path))
        return self._keep(name, replace(case, labels=replace(case.labels, labels=array)))

    def _keep(self, name: str, case: OpenCase) -> OpenCase:
        with self._lock:
            self._open[name] = case
            self._open.move_to_end(name)
            while len(self._open) > _KEPT:
                self._open.popitem(last=False)
        return case

    def _read(self, name: str) -> OpenCase:
        files = self.files[name]
        image = load_case(files)[0]
        volume = image.sliced_along(self.axis)
        written = _read_result(self.folder / self.record(name)["output"], image.grid)
        labels = written if volume.axis == "t" else written.sliced_along(self.axis)
        if labels.labels.shape != volume.grid.shape:
            raise GeometryMismatch(
                f"the labels {labels.labels.shape} do not lie on the image {volume.grid.shape}; give the "
                "images that were segmented with -i"
            )
        sized: Any = sized_labels(LabelMap(labels.labels, labels.grid, self.classes))
        return OpenCase(
            files, Wire.of(volume, self.intensity), LabelMap(sized.copy(), labels.grid, self.classes), written
        )


def _read_result(path: Path, onto: Grid) -> LabelMap:
    masks = path / "masks"
    return read_labels(masks if masks.is_dir() else path, onto)


def run_of(folder: Path) -> dict[str, Any]:
    """The configuration of the run that wrote an output folder.

    Raises:
        UsageError: it holds no results of `unprompted segment`.
    """
    try:
        configuration: dict[str, Any] = json.loads((folder / RUN).read_text(encoding="utf-8"))[
            "configuration"
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{folder} holds no results of `unprompted segment` ({type(error).__name__}); segment first"
        ) from error
    return configuration


def finished(folder: Path) -> list[str]:
    """Names of the finished cases of an output folder, sorted."""
    return sorted(path.stem for path in (folder / CASES).glob("*.json"))


def record_of(folder: Path, name: str) -> dict[str, Any]:
    """What the run wrote about a finished case.

    Raises:
        DataRefused: it cannot be read.
    """
    path = folder / CASES / f"{name}.json"
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataRefused(f"{path} is damaged ({error}); segment the case again") from error
    return record


def predicted_dice(record: Mapping[str, Any]) -> float | None:
    """The mean predicted Dice over the classes of a case that can be judged."""
    known = [one["dice"] for one in record.get("predicted_dice", {}).values() if one["dice"] is not None]
    return round(float(np.mean(known)), 4) if known else None


def quality_of(record: Mapping[str, Any]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Quality and pixels of every slice and class, ``(D, K)`` each."""
    entries = list(record["slices"].values())
    quality = np.array([entry["quality"] for entry in entries], np.float64).T
    return quality, np.array([entry["pixels"] for entry in entries], np.int64).T
