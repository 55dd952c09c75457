"""What the review page needs beside the results of a run: where the images lie, and the fitted task.

OUT/review/sources.json  paths of this machine
OUT/review/task/         the fitted task, with the labelled slices it learned from
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unprompted.apps.batch.records import write_json
from unprompted.errors import UsageError
from unprompted.io.atomic import replacing

if TYPE_CHECKING:
    from unprompted.segmenter import FittedSegmenter

REVIEW, SOURCES, TASK = "review", "sources.json", "task"


@dataclass(frozen=True)
class Sources:
    """Where the images and the fitted task of an output folder lie.

    Attributes:
        images: what was given with ``-i``.
        task: folder of the fitted task; None where corrections cannot teach.
        series: which DICOM series of the images, a word as `Series.is_called` takes it; None for all.
    """

    images: Path
    task: Path | None = None
    series: str | None = None

    @classmethod
    def of(cls, folder: Path, images: Path | None = None, task: Path | None = None) -> "Sources":
        """What is known of an output folder; what is given here goes before, and is remembered.

        Raises:
            UsageError: nobody said where the images lie.
        """
        file = folder / REVIEW / SOURCES
        try:
            known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
            images = images or (Path(known["images"]) if known.get("images") else None)
            task = task or (Path(known["task"]) if known.get("task") else None)
            series = str(known["series"]) if known.get("series") else None
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise UsageError(
                f"{file} is damaged ({error}); delete it and give -i IMAGES and -t TASK"
            ) from error
        if images is None:
            raise UsageError(
                f"{folder} does not say where its images lie; give them with -i IMAGES (and the fitted task "
                "with -t TASK, for corrections to teach), or segment with --review"
            )
        found = cls(images.resolve(), None if task is None else task.resolve(), series)
        if task is not None and not (task / "task.json").is_file():
            raise UsageError(f"{task} holds no fitted task; make one with `unprompted fit`")
        found.write(folder)
        return found

    def write(self, folder: Path) -> None:
        """Remember this in an output folder."""
        task = None if self.task is None else str(self.task)
        content = {"images": str(self.images), "task": task, "series": self.series}
        write_json(folder / REVIEW / SOURCES, content)


def is_kept(folder: Path) -> bool:
    """Whether an output folder has what the review page needs."""
    return (folder / REVIEW / SOURCES).is_file()


def keep_for_review(
    folder: Path, images: Path, task: "FittedSegmenter", saved: Path | None, series: str | None
) -> None:
    """Keep what the review page needs in an output folder.

    Args:
        folder: the output folder.
        images: what was segmented.
        task: what segmented it.
        saved: where the task lies already, None where it was fitted for this run.
        series: which series of the images was segmented, None for all.
    """
    if saved is None:
        saved = folder / REVIEW / TASK
        with replacing(saved) as partial:
            task.save(partial)
    Sources(images.resolve(), saved.resolve(), series).write(folder)
