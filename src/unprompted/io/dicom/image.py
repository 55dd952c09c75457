"""The image of a series: a volume, a picture or a clip."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from unprompted.errors import DataRefused, UnreadableFile
from unprompted.geometry import Grid
from unprompted.io.dicom.clip import decoded_clip, is_film
from unprompted.io.dicom.frames import Frame, decoded, frames_of
from unprompted.io.dicom.series import dataset_of, series_of
from unprompted.io.dicom.stack import Stack, stack_of


@dataclass(frozen=True, eq=False)
class StoredImage:
    """An image as its files hold it; pixels are decoded when they are asked for.

    Attributes:
        frames: in order.
        grid: of the array in stored order, ``(slice, row, column)``.
        axis: "z" for a volume or a picture, "t" for a clip.
        stack: how the frames make a volume; None for pictures and clips, which lie nowhere.
    """

    frames: tuple[Frame, ...]
    grid: Grid
    axis: Literal["z", "t"]
    stack: Stack | None = None

    @property
    def notices(self) -> tuple[str, ...]:
        """What is unusual about it."""
        return self.stack.notices if self.stack else ()

    @property
    def files(self) -> tuple[Path, ...]:
        """Its files, each once, in the order of the frames."""
        return tuple(dict.fromkeys(frame.file for frame in self.frames))

    def pixels(self) -> NDArray[np.float32]:
        """``(slices, rows, columns)`` or, for colours, ``(..., 3)``.

        Raises:
            UnreadableFile: a file cannot be decoded.
        """
        if self.stack is not None:
            return self.stack.voxels()
        if self.axis == "t" and is_film(dataset := dataset_of(self.files[0])):
            return decoded_clip(dataset, self.files[0], len(self.frames))
        return decoded(self.frames)


def stored_image(path: Path) -> StoredImage:
    """The image of a folder that holds one series, or of the series that a file belongs to.

    Raises:
        DataRefused: there is no image, there are several, or the slices make no volume.
        UnreadableFile: a file is damaged.
    """
    series = series_of(path)
    if series.holds_labels:
        raise DataRefused(f"{path.name}: is a {series.modality} object, which holds labels and no image")
    frames = [frame for file in series.files for frame in frames_of(dataset_of(file, pixels=False), file)]
    places = [frame.place for frame in frames if frame.place is not None]
    if len(places) == len(frames) > 0:
        stack = stack_of(frames, places, path.name)
        return StoredImage(stack.frames, stack.grid, "z", stack)
    if places:
        raise DataRefused(
            f"{path.name}: {len(frames) - len(places)} of {len(frames)} slices say nothing of where they lie"
        )
    return _unlocated(path, frames)


def _unlocated(path: Path, frames: list[Frame]) -> StoredImage:
    """A picture or a clip: the frames of one file."""
    files = {frame.file for frame in frames}
    if len(files) > 1 and path.is_file():
        frames = [frame for frame in frames if frame.file == path]
    elif len(files) > 1:
        raise DataRefused(
            f"{path.name}: its {len(files)} files are pictures without a place in the patient, so they make "
            "no volume; give each as an image of its own"
        )
    if not frames:
        raise UnreadableFile(f"{path.name}: holds no frame")
    count, shape, spacing = len(frames), frames[0].shape, frames[0].spacing
    if count > 1 or spacing is None:
        grid = Grid.without_mm((count, *shape))
    else:
        grid = Grid.with_spacing((1, *shape), (1.0, *spacing))
    return StoredImage(tuple(frames), grid, "t" if count > 1 else "z")
