"""Masks of one class, and how the planes of a label object find their place in an image."""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unprompted.geometry import Affine, Grid

MAKER = "unprompted"
_OFF_GRID = 0.05  # pixels by which a plane may miss the pixels of the image
_OFF_SLICE = 0.3  # slice distances by which it may miss a slice


@dataclass(frozen=True, eq=False)
class NamedMask:
    """One class.

    Attributes:
        name: as its object says it.
        inside: bool, of the shape of the image's grid.
        drawn: whether its object shows anything of it, inside the image or not.
        value: the label value it was written from, where its object is ours and says so.
    """

    name: str
    inside: NDArray[np.bool_]
    drawn: bool
    value: int | None = None


def value_in(description: str) -> int | None:
    """The label value in a description as `description_of` writes it; None in any other."""
    found = re.fullmatch(rf"{MAKER}: label ([1-9]\d{{0,4}})", description)
    return int(found[1]) if found else None


def description_of(value: int) -> str:
    """What an object of ours says of a class: the label value, which numbers of segments cannot keep."""
    return f"{MAKER}: label {value}"


@dataclass(frozen=True)
class Seat:
    """Where a plane of pixels lies among the voxels of a grid.

    Attributes:
        axis: the grid axis across the plane.
        slice: index along that axis; it may lie outside the grid.
        rows: grid axis along which the rows of the plane grow.
        starts: index of the first pixel along the two other axes, rows' first.
        signs: 1 or -1 for each, whether growing index goes on along the axis or back.
    """

    axis: int
    slice: int
    rows: int
    starts: tuple[int, int]
    signs: tuple[int, int]


def seat_of(plane: Affine, shape: tuple[int, int], grid: Grid) -> Seat | None:
    """Where a plane lies if its pixels are voxels of the grid; None where they are not.

    Args:
        plane: matrix from ``(0, row, column, 1)`` to RAS+ mm.
        shape: rows and columns.
        grid: of the image.
    """
    to_grid = np.linalg.inv(grid.affine) @ plane
    steps, start = to_grid[:3, 1:3], to_grid[:3, 3]
    axes = [int(np.abs(steps[:, n]).argmax()) for n in range(2)]
    if axes[0] == axes[1]:
        return None
    across = 3 - sum(axes)
    signs = [int(np.sign(steps[axes[n], n])) for n in range(2)]
    ideal = np.zeros((3, 2))
    for n in range(2):
        ideal[axes[n], n] = signs[n]
    reach = np.array([[shape[0] - 1, shape[1] - 1]])
    drift = (np.abs(steps - ideal) * reach).sum(axis=1)
    rounded = np.round(start)
    missed = np.abs(start - rounded) + drift
    allowed = np.full(3, _OFF_GRID)
    allowed[across] = _OFF_SLICE
    if grid.shape[across] == 1:  # nothing says how far apart the slices of a single slice are
        allowed[across] = 0.5
    if (missed > allowed).any():
        return None
    starts = int(rounded[axes[0]]), int(rounded[axes[1]])
    return Seat(across, int(rounded[across]), axes[0], starts, (signs[0], signs[1]))


def put(pixels: NDArray[np.bool_], seat: Seat, inside: NDArray[np.bool_]) -> None:
    """Add a plane of pixels to a mask; what lies outside it is left out."""
    if not 0 <= seat.slice < inside.shape[seat.axis]:
        return
    target = np.moveaxis(inside, seat.axis, 0)[seat.slice]
    remaining = [axis for axis in range(3) if axis != seat.axis]
    if remaining[0] != seat.rows:
        target = target.T
    index, source = [], []
    for start, sign, count, size in zip(seat.starts, seat.signs, pixels.shape, target.shape, strict=True):
        along = start + sign * np.arange(count)
        kept = (along >= 0) & (along < size)
        index.append(along[kept])
        source.append(np.flatnonzero(kept))
    target[np.ix_(*index)] |= pixels[np.ix_(*source)]


def resampled(values: NDArray[np.bool_], source: Grid, grid: Grid) -> NDArray[np.bool_]:
    """A mask on another grid, by the nearest voxel."""
    to_source = np.linalg.inv(source.affine) @ grid.affine
    inside = np.zeros(grid.shape, dtype=bool)
    h, w = np.meshgrid(np.arange(grid.shape[1]), np.arange(grid.shape[2]), indexing="ij")
    for d in range(grid.shape[0]):
        at = np.stack([np.full(h.shape, d), h, w, np.ones(h.shape)]).reshape(4, -1)
        index = np.floor((to_source @ at)[:3] + 0.5).astype(int)
        kept = np.all([(i >= 0) & (i < n) for i, n in zip(index, values.shape, strict=True)], axis=0)
        found = np.zeros(h.size, dtype=bool)
        found[kept] = values[tuple(index[:, kept])]
        inside[d] = found.reshape(h.shape)
    return inside
