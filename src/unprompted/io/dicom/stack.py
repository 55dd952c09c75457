"""Frames put in order as one volume: what is even is kept as it is, what is not is refused or resampled."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unprompted.errors import DataRefused
from unprompted.geometry import Grid
from unprompted.io.dicom.frames import LPS_TO_RAS, Frame, Place, decoded

_SAME_DIRECTION = 1e-3  # of a cosine
_UPRIGHT = 5e-6  # cosine between axes up to which highdicom takes a grid as a box
_SAME_PLACE_MM = 1e-3
_UNEVEN = 0.05  # of the slice distance: what positions may deviate from an even stack
_ROUNDING_MM = 0.02  # what positions written with two decimals may deviate
_WIDEST_GAP = 2.5  # usual slice distances; a wider gap is not bridged
_TILT_DEGREES = 0.5


@dataclass(frozen=True, eq=False)
class Stack:
    """Frames of one volume in order, and the even grid they fill.

    Attributes:
        frames: in the order in which they lie.
        first: where the first of them lies.
        grid: array index ``(slice, row, column)`` to RAS+ mm; of a tilted gantry it is sheared.
        places: ``(slices,)`` place of every slice of the grid among the frames: 1.25 lies a quarter of
            the way from frame 1 to frame 2. Whole numbers where nothing is resampled.
        notices: what is unusual about it, one sentence each.
    """

    frames: tuple[Frame, ...]
    first: Place
    grid: Grid
    places: NDArray[np.float64]
    notices: tuple[str, ...] = ()

    @property
    def is_resampled(self) -> bool:
        """Whether slices of the grid lie between frames."""
        return len(self.places) != len(self.frames) or bool((self.places % 1).any())

    @property
    def is_sheared(self) -> bool:
        """Whether slices follow each other at a slant, as of a tilted gantry."""
        cosines = self.grid.affine[:3, :3] / np.linalg.norm(self.grid.affine[:3, :3], axis=0)
        return bool(np.abs(cosines.T @ cosines - np.eye(3)).max() > _UPRIGHT)

    def voxels(self) -> NDArray[np.float32]:
        """The slices of the grid, linear between frames where they lie between."""
        stored = decoded(self.frames)
        if not self.is_resampled:
            return stored
        below = np.floor(self.places).astype(int)
        above = np.minimum(below + 1, len(stored) - 1)
        share = (self.places - below).astype(np.float32).reshape(-1, *[1] * (stored.ndim - 1))
        return stored[below] * (1 - share) + stored[above] * share


def stack_of(frames: Sequence[Frame], places: Sequence[Place], name: str) -> Stack:
    """The volume that frames make.

    Args:
        frames: in any order.
        places: where each lies.
        name: for messages.

    Raises:
        DataRefused: they differ in size or direction, several lie at one place, slices are shifted
            against each other, or a gap is too wide to bridge.
    """
    _refuse_strangers(frames, places, name)
    normal = places[0].normal
    along = np.array([float(place.position @ normal) for place in places])
    order = np.argsort(along, kind="stable")
    along, lowest = along[order], places[order[0]]
    ordered = tuple(frames[n] for n in order)
    shape = frames[0].shape
    _refuse_doubles(along, name)
    if len(ordered) == 1:
        return Stack(ordered, lowest, Grid((1, *shape), lowest.to_world), np.zeros(1))
    positions = np.array([places[n].position for n in order])
    share = (along - along[0]) / (along[-1] - along[0])
    on_line = positions[0] + share[:, None] * (positions[-1] - positions[0])
    if np.abs(positions - on_line).max() > _tolerance(np.median(np.diff(along))):
        raise DataRefused(
            f"{name}: the slices are shifted against each other inside their planes, so they make no "
            "volume; resample them with the scanner's software"
        )
    count, seats, notices = _even(along, name)
    step = (positions[-1] - positions[0]) / (count - 1)
    to_world = lowest.to_world
    to_world[:3, 0] = LPS_TO_RAS[:3, :3] @ step
    return Stack(ordered, lowest, Grid((count, *shape), to_world), seats, notices + _tilt(step, normal))


def _tilt(step: NDArray[np.float64], normal: NDArray[np.float64]) -> tuple[str, ...]:
    tilt = np.degrees(np.arccos(min(1.0, abs(float(step @ normal)) / float(np.linalg.norm(step)))))
    if tilt <= _TILT_DEGREES:
        return ()
    return (
        f"the gantry was tilted by {tilt:.1f} degrees; slices are kept as they were acquired and the affine "
        "is sheared, which some programs do not read",
    )


def _even(along: NDArray[np.float64], name: str) -> tuple[int, NDArray[np.float64], tuple[str, ...]]:
    """How many even slices fill the stack, where they lie among the frames, and what to say of it."""
    gaps = np.diff(along)
    usual = float(np.median(gaps))
    even = np.linspace(along[0], along[-1], len(along))
    if np.abs(along - even).max() <= _tolerance(usual):
        return len(along), np.arange(len(along), dtype=np.float64), ()
    widest = float(gaps.max())
    found = f"slices are {gaps.min():.4g} to {widest:.4g} mm apart, mostly {usual:.4g}"
    if widest > _WIDEST_GAP * usual:
        after = int(gaps.argmax()) + 1
        raise DataRefused(
            f"{name}: {found}; slices are missing after slice {after} of {len(along)}, and a gap this wide "
            "is not filled; give the whole series, or its parts as series of their own"
        )
    count = round((along[-1] - along[0]) / usual) + 1
    even = np.linspace(along[0], along[-1], count)
    places = np.interp(even, along, np.arange(len(along)))
    near = np.abs(places - np.round(places)) < 1e-6
    places[near] = np.round(places[near])
    return (
        count,
        places,
        (f"{found}; resampled linearly to {count} slices {even[1] - even[0]:.4g} mm apart",),
    )


def _tolerance(spacing: float) -> float:
    return _UNEVEN * float(spacing) + _ROUNDING_MM


def _refuse_strangers(frames: Sequence[Frame], places: Sequence[Place], name: str) -> None:
    sizes = sorted({frame.shape for frame in frames})
    spacings = sorted({(round(place.spacing[0], 4), round(place.spacing[1], 4)) for place in places})
    if len(sizes) > 1 or len(spacings) > 1:
        what = f"sizes {sizes}" if len(sizes) > 1 else f"pixel spacings {spacings}"
        raise DataRefused(f"{name}: slices of several {what} make no volume; give them apart")
    first = places[0].directions
    turned = sum(bool(np.abs(place.directions - first).max() > _SAME_DIRECTION) for place in places)
    if turned:
        raise DataRefused(
            f"{name}: {turned} of {len(frames)} slices lie in another direction than the first, as in a "
            "localizer; a volume has parallel slices"
        )


def _refuse_doubles(along: NDArray[np.float64], name: str) -> None:
    twice = int((np.diff(along) < _SAME_PLACE_MM).sum())
    if twice:
        raise DataRefused(
            f"{name}: {len(along)} slices lie at {len(along) - twice} places; the series holds several time "
            "points, echoes or contrasts, or slices twice; give each volume as a series of its own"
        )
