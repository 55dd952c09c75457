"""RTSTRUCT outlines as masks: a voxel is inside where its centre is."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from unprompted.errors import LabelRefused
from unprompted.geometry import Grid
from unprompted.io.dicom.frames import LPS_TO_RAS
from unprompted.io.dicom.masks import NamedMask, value_in

_LOG = logging.getLogger(__name__)
_CLOSED = "CLOSED_PLANAR"
_FLAT = 0.1  # slices that an outline drawn in a slice may leave it by
Outline = NDArray[Any]


def roi_names(dataset: Dataset) -> dict[int, str]:
    """ROI number to name, of those with an outline.

    Raises:
        LabelRefused: the object holds no closed outline.
    """
    drawn = {int(roi.ReferencedROINumber) for roi in dataset.get("ROIContourSequence", []) if _outlines(roi)}
    rois = {
        int(roi.ROINumber): str(roi.ROIName).strip() for roi in dataset.get("StructureSetROISequence", [])
    }
    names = {number: name or f"ROI {number}" for number, name in sorted(rois.items()) if number in drawn}
    if not names:
        raise LabelRefused("the structure set holds no closed outline")
    return names


def roi_masks(dataset: Dataset, grid: Grid, file: str) -> list[NamedMask]:
    """Every structure on the grid of an image, matched by position.

    An outline inside another one cuts a hole (exclusive or), as most planning systems draw it.

    Raises:
        LabelRefused: outlines run across the slices.
    """
    names = roi_names(dataset)
    masks = {number: np.zeros(grid.shape, dtype=bool) for number in names}
    to_grid = np.linalg.inv(grid.affine) @ LPS_TO_RAS
    for roi in dataset.ROIContourSequence:
        number = int(roi.ReferencedROINumber)
        if number not in masks:
            continue
        outlines = [_on_grid(points, to_grid) for points in _outlines(roi)]
        across = _axis_across(outlines, grid, f"{file}, {names[number]}")
        by_slice: dict[int, list[Outline]] = defaultdict(list)
        for outline in outlines:
            by_slice[round(float(outline[:, across].mean()))].append(np.delete(outline, across, axis=1))
        stack = np.moveaxis(masks[number], across, 0)
        for position, drawn in by_slice.items():
            if 0 <= position < len(stack):
                stack[position] ^= filled(drawn, stack.shape[1:])
        _notice_gaps(sorted(by_slice), f"{file}, {names[number]}")
    said = {int(roi.ROINumber): str(roi.get("ROIDescription", "")) for roi in dataset.StructureSetROISequence}
    return [NamedMask(name, masks[number], True, value_in(said[number])) for number, name in names.items()]


def filled(outlines: Sequence[Outline], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The pixels whose centre lies inside an odd number of the outlines (even-odd rule).

    Args:
        outlines: ``(points, 2)`` row and column each, pixel centres at whole numbers; closed by themselves.
        shape: rows and columns.
    """
    crossed = np.zeros((shape[0], shape[1] + 1), dtype=np.int32)
    for outline in outlines:
        for (row, column), (to_row, to_column) in _edges(outline):
            low, high = min(row, to_row), max(row, to_row)
            rows = np.arange(max(int(np.ceil(low)), 0), min(int(np.ceil(high)), shape[0]))
            at = column + (rows - row) * (to_column - column) / (to_row - row) if len(rows) else rows
            crossed[rows, np.clip(np.ceil(at), 0, shape[1]).astype(int)] += 1
    return np.cumsum(crossed[:, :-1], axis=1) % 2 == 1


def _edges(outline: Outline) -> Iterator[tuple[Outline, Outline]]:
    return zip(outline, np.roll(outline, -1, axis=0), strict=True)


def _outlines(roi: Dataset) -> list[Outline]:
    """The closed outlines of a structure, ``(points, 3)`` in LPS millimetres."""
    closed = [c for c in roi.get("ContourSequence", None) or [] if c.get("ContourGeometricType") == _CLOSED]
    points = [np.array([float(x) for x in c.ContourData]).reshape(-1, 3) for c in closed if c.ContourData]
    return [outline for outline in points if len(outline) > 2]


def _on_grid(points: Outline, to_grid: NDArray[Any]) -> Outline:
    return points @ to_grid[:3, :3].T + to_grid[:3, 3]


def _axis_across(outlines: Sequence[Outline], grid: Grid, name: str) -> int:
    """The grid axis across all outlines, the one they least reach along."""
    reach = np.max([np.ptp(outline, axis=0) for outline in outlines], axis=0)
    across = int(np.argmin(reach))
    if reach[across] > _FLAT:
        raise LabelRefused(
            f"{name}: outlines run across the slices of the image ({grid.describe()}); they were drawn on "
            "another series, so give that one"
        )
    return across


def _notice_gaps(slices: Sequence[int], name: str) -> None:
    """Say so where a structure is drawn on some slices only: nothing is drawn between them."""
    missing = slices[-1] - slices[0] + 1 - len(slices)
    if missing > len(slices) // 2:
        _LOG.warning("%s: outlined on %d slices, with %d empty ones between", name, len(slices), missing)
