"""DICOM segmentations (BINARY, FRACTIONAL, LABELMAP) as masks."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pixel_array

from unprompted.errors import LabelRefused, UnreadableFile
from unprompted.geometry import Grid
from unprompted.io.dicom.frames import Frame, frames_of
from unprompted.io.dicom.masks import NamedMask, put, resampled, seat_of, value_in

_LOG = logging.getLogger(__name__)
_HALF = 0.5  # of the greatest fraction: from here on a voxel is inside


def segment_names(dataset: Dataset) -> dict[int, str]:
    """Segment number to label; the background of a label map is left out.

    Raises:
        LabelRefused: the object describes no segment.
    """
    segments = {int(s.SegmentNumber): str(s.SegmentLabel).strip() for s in dataset.get("SegmentSequence", [])}
    segments.pop(0, None)
    if not segments:
        raise LabelRefused("the segmentation describes no segment")
    return {number: name or f"segment {number}" for number, name in sorted(segments.items())}


def segment_masks(dataset: Dataset, grid: Grid, file: Path) -> list[NamedMask]:
    """Every segment on the grid of an image, matched by position, or by frame number in a clip.

    Raises:
        LabelRefused: the frames lie nowhere, and their number is not that of the image.
        UnreadableFile: the pixels are damaged.
    """
    names = segment_names(dataset)
    frames = frames_of(dataset, file)
    masks = {number: np.zeros(grid.shape, dtype=bool) for number in names}
    if any(frame.place is None for frame in frames):
        _put_by_number(dataset, frames, grid, masks, file)
    elif not _put_by_place(dataset, frames, masks, grid):
        _LOG.warning("%s: its voxels are not those of the image; resampled to the nearest", file.name)
        native = own_grid(dataset, file)
        own = {number: np.zeros(native.shape, dtype=bool) for number in names}
        if not _put_by_place(dataset, frames, own, native):
            raise LabelRefused(f"{file.name}: its frames make no volume")
        masks = {number: resampled(values, native, grid) for number, values in own.items()}
    drawn = any(_segments_of(dataset, frame, set(names)) for frame in frames)
    said = {int(s.SegmentNumber): str(s.get("SegmentDescription", "")) for s in dataset.SegmentSequence}
    return [NamedMask(name, masks[number], drawn, value_in(said[number])) for number, name in names.items()]


def own_grid(dataset: Dataset, file: Path) -> Grid:
    """The even grid that the frames of a segmentation lie on; frames left out as empty count.

    Raises:
        LabelRefused: the frames are not parallel.
    """
    frames = frames_of(dataset, file)
    places = [frame.place for frame in frames if frame.place is not None]
    if len(places) < len(frames):
        return Grid.without_mm((max(_frame_numbers(dataset, len(frames))) + 1, *frames[0].shape))
    normal = places[0].normal
    if any(np.abs(place.directions - places[0].directions).max() > 1e-3 for place in places):
        raise LabelRefused(f"{file.name}: the frames are not parallel")
    along = np.array([float(place.position @ normal) for place in places])
    lowest, highest = places[int(along.argmin())], places[int(along.argmax())]
    levels = np.unique(np.round(along, 3))
    gap = float(np.diff(levels).min()) if len(levels) > 1 else lowest.thickness or 1.0
    spacing = lowest.thickness if lowest.thickness and _fits(levels, lowest.thickness) else gap
    count = round(float(levels[-1] - levels[0]) / spacing) + 1
    to_world = lowest.to_world
    if count > 1:
        to_world[:3, 0] = (highest.to_world[:3, 3] - to_world[:3, 3]) / (count - 1)
    else:
        to_world[:3, 0] *= spacing / np.linalg.norm(to_world[:3, 0])
    return Grid((count, *frames[0].shape), to_world)


def _fits(places: NDArray[np.float64], spacing: float) -> bool:
    steps = (places - places[0]) / spacing
    return bool(np.abs(steps - np.round(steps)).max() < 0.1) and len(np.unique(np.round(steps))) == len(steps)


def _put_by_place(dataset: Dataset, frames: list[Frame], masks: dict[int, Any], grid: Grid) -> bool:
    """Put every frame where it lies; False, and nothing put, where one is not made of voxels of the grid."""
    seats = [seat_of(frame.place.to_world, frame.shape, grid) if frame.place else None for frame in frames]
    found = [seat for seat in seats if seat is not None]
    if len(found) < len(frames):
        return False
    for frame, seat in zip(frames, found, strict=True):
        for number, pixels in _segments_of(dataset, frame, set(masks)):
            put(pixels, seat, masks[number])
    return True


def _put_by_number(
    dataset: Dataset, frames: list[Frame], grid: Grid, masks: dict[int, Any], file: Path
) -> None:
    """Put the frames of a clip by the number of the frame each was drawn on."""
    numbers = _frame_numbers(dataset, len(frames))
    if max(numbers) >= grid.shape[0] or frames[0].shape != grid.shape[1:]:
        raise LabelRefused(
            f"{file.name}: frames of {frames[0].shape} for {max(numbers) + 1} pictures, but the image is "
            f"{grid.shape}"
        )
    for frame, number in zip(frames, numbers, strict=True):
        for segment, pixels in _segments_of(dataset, frame, set(masks)):
            masks[segment][number] |= pixels


def _segments_of(dataset: Dataset, frame: Frame, known: set[int]) -> list[tuple[int, NDArray[np.bool_]]]:
    """The segments that a frame shows, each with its pixels."""
    pixels = _pixels(dataset, frame)
    if dataset.SegmentationType == "LABELMAP":
        return [(n, pixels == n) for n in map(int, np.unique(pixels)) if n in known]
    number = _segment_number(dataset, frame)
    if number not in known:
        raise UnreadableFile(f"{frame.file.name}: a frame is of segment {number}, which is not described")
    if dataset.SegmentationType == "FRACTIONAL":
        inside = pixels >= _HALF * int(dataset.MaximumFractionalValue)
    else:
        inside = pixels > 0
    return [(number, inside)] if inside.any() else []


def _pixels(dataset: Dataset, frame: Frame) -> NDArray[Any]:
    """The stored values of a frame.

    Frames of one bit a pixel follow each other without a gap, so most begin inside a byte, which pydicom
    cannot index.
    """
    number, count = frame.index or 0, frame.shape[0] * frame.shape[1]
    if int(dataset.BitsAllocated) != 1 or dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        return pixel_array(dataset, index=number)
    first, last = number * count, (number + 1) * count
    packed = np.frombuffer(dataset.PixelData[first // 8 : -(-last // 8)], dtype=np.uint8)
    bits = np.unpackbits(packed, bitorder="little")[first % 8 :][:count]
    if bits.size < count:
        raise UnreadableFile(f"{frame.file.name}: its pixels end in frame {number + 1}; it is truncated")
    return bits.reshape(frame.shape)


def _segment_number(dataset: Dataset, frame: Frame) -> int:
    own = dataset.PerFrameFunctionalGroupsSequence[frame.index or 0]
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    found = own.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
    return int(found[0].ReferencedSegmentNumber) if found else -1


def _frame_numbers(dataset: Dataset, count: int) -> list[int]:
    """The frame of the image, from 0, that each frame of the segmentation was drawn on."""
    found = []
    for n in range(count):
        try:
            derived = dataset.PerFrameFunctionalGroupsSequence[n].DerivationImageSequence[0]
            referenced = derived.SourceImageSequence[0].get("ReferencedFrameNumber", 1)
        except (AttributeError, IndexError) as error:
            raise LabelRefused("the frames say neither where they lie nor what they were drawn on") from error
        found.append(int(referenced) - 1 if not hasattr(referenced, "__len__") else int(referenced[0]) - 1)
    return found
