"""Where voxels lie in the patient: grids, and the exact way between array orders.

World coordinates are RAS+ millimetres (x to the patient's right, y to the front, z to the head), as
in NIfTI. A `Grid` maps array index ``(d, h, w)`` to that world. Readers bring every file into the
*canonical order* of this module once; nothing else moves axes.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from unprompted.errors import GeometryMismatch, UsageError
from unprompted.slices import is_mapped

Affine = NDArray[np.float64]
Voxel = TypeVar("Voxel", bound=np.generic)
ANATOMICAL_AXES = "RAS"

# Array directions that make a slice look upright on a screen, per slice axis: what grows with d, h
# and w. Axial and coronal slices are shown as radiologists do, the patient's right on the left.
_CANONICAL_DIRECTIONS = {"S": "SPL", "A": "AIL", "R": "RIP"}
_OPPOSITE = {"R": "L", "L": "R", "A": "P", "P": "A", "S": "I", "I": "S"}
_SAME_COSINE = 1e-3  # direction cosines closer than this count as equal
_TIE = 1.01  # spacings closer than 1 % count as equal


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular grid of voxels.

    Attributes:
        shape: number of voxels along ``(d, h, w)``.
        affine: ``(4, 4)`` matrix from ``(d, h, w, 1)`` to RAS+ millimetres.
        in_mm: False where the file gives no physical spacing (a PNG, say); distances in millimetres
            are then refused.
    """

    shape: tuple[int, int, int]
    affine: Affine
    in_mm: bool = True

    def __post_init__(self) -> None:
        affine = np.asarray(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise GeometryMismatch(f"an affine is a finite 4x4 matrix, got {affine.tolist()}")
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        if not lengths.all() or abs(np.linalg.det(affine[:3, :3] / lengths)) < 1e-6:
            raise GeometryMismatch(
                f"the affine is singular, so voxels have no volume: {affine.tolist()}; "
                "repair the header before segmenting"
            )
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))

    @classmethod
    def without_mm(cls, shape: tuple[int, int, int]) -> "Grid":
        """A grid for images that carry no physical spacing: one unit a voxel, already canonical."""
        return cls.with_spacing(shape, (1.0, 1.0, 1.0), in_mm=False)

    @classmethod
    def with_spacing(
        cls,
        shape: tuple[int, int, int],
        spacing: tuple[float, float, float],
        in_mm: bool = True,
        axis: str = "S",
    ) -> "Grid":
        """A grid for images that give a spacing but no orientation: taken as upright slices.

        Args:
            shape: voxels along ``(d, h, w)``.
            spacing: distance between neighbours along ``(d, h, w)``.
            in_mm: whether the spacing is in millimetres.
            axis: the anatomical axis that slices are taken to lie across.
        """
        affine = np.eye(4)
        affine[:3, :3] = 0
        for column, (letter, step) in enumerate(zip(_CANONICAL_DIRECTIONS[axis], spacing, strict=True)):
            positive = _anatomical(letter)
            affine[ANATOMICAL_AXES.index(positive), column] = step if letter == positive else -step
        return cls(shape, affine, in_mm)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between neighbours along ``(d, h, w)``; millimetres if `in_mm`."""
        d, h, w = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(d), float(h), float(w)

    @property
    def is_upright(self) -> bool:
        """Whether the array axes are at right angles; they are not in a stack of a tilted gantry."""
        cosines = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        return bool(np.abs(cosines.T @ cosines - np.eye(3)).max() <= _SAME_COSINE)

    @property
    def directions(self) -> str:
        """Anatomical direction of growing ``(d, h, w)``, the closest one each, such as ``"SPL"``."""
        return _closest_directions(self.affine)

    def same_space(self, other: "Grid", tolerance_mm: float = 1e-3) -> bool:
        """Whether both grids have the same shape and put every voxel at the same place."""
        return self.shape == other.shape and bool(
            np.abs(_corners(self) - _corners(other)).max() <= tolerance_mm
        )

    def describe(self) -> str:
        """One line for messages: shape, spacing and origin."""
        spacing = " x ".join(f"{s:.4g}" for s in self.spacing)
        origin = ", ".join(f"{o:.4g}" for o in self.affine[:3, 3])
        unit = "mm" if self.in_mm else "pixels"
        return f"shape {self.shape}, spacing {spacing} {unit}, origin ({origin}), {self.directions}"


def _corners(grid: Grid) -> Affine:
    ends = np.array([(d, h, w, 1.0) for d in (0, 1) for h in (0, 1) for w in (0, 1)])
    ends[:, :3] *= np.asarray(grid.shape) - 1
    return (ends @ grid.affine.T)[:, :3]


def _closest_directions(affine: Affine) -> str:
    """Assign each array axis its anatomical direction; every world axis is used once.

    Two array axes at 45 degrees fit a world axis equally well. The tie is broken by how the axes lie
    in the world, never by their order in the file, so that every storage order gives one answer.
    """
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    letters = ["", "", ""]
    weight = np.abs(cosines)
    for _ in range(3):
        ties = np.argwhere(weight >= weight.max() - _SAME_COSINE)
        world, axis = min(ties, key=lambda pair: (pair[0], _unsigned(cosines[:, pair[1]])))
        positive = ANATOMICAL_AXES[world]
        letters[axis] = positive if cosines[world, axis] > 0 else _OPPOSITE[positive]
        weight[world, :] = weight[:, axis] = -1
    return "".join(letters)


def _unsigned(direction: NDArray[np.float64]) -> tuple[float, ...]:
    """A direction or its opposite, whichever has the first clear component positive."""
    first = direction[np.argmax(np.abs(direction) > _SAME_COSINE)]
    return tuple(np.round(direction * np.sign(first), 3))


def _anatomical(direction: str) -> str:
    return direction if direction in ANATOMICAL_AXES else _OPPOSITE[direction]


def slice_axis(grid: Grid) -> str:
    """The anatomical axis ("S", "A" or "R") to cut slices across.

    A grid with a single voxel along exactly one axis is one slice across that axis. Otherwise it is
    the axis of largest spacing, the first of S, A, R on a tie.
    """
    if grid.shape.count(1) == 1:
        return _anatomical(grid.directions[grid.shape.index(1)])
    spacing = {_anatomical(letter): s for letter, s in zip(grid.directions, grid.spacing, strict=True)}
    largest = max(spacing.values())
    return next(axis for axis in "SAR" if spacing[axis] * _TIE >= largest)


@dataclass(frozen=True)
class Reordering:
    """A permutation of the three array axes followed by flips: exact, and exactly undone.

    Attributes:
        axes: source axis of each target axis.
        flips: whether each *target* axis runs against its source axis.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def apply(self, array: NDArray[Voxel]) -> NDArray[Voxel]:
        """Reorder the first three axes of an array; further axes stay. What is mapped is not copied."""
        view = self.view(array)
        return view if is_mapped(array) else np.ascontiguousarray(view)

    def view(self, array: NDArray[Voxel]) -> NDArray[Voxel]:
        """The same as `apply` without a copy: writing to it writes to the array."""
        rest = tuple(range(3, array.ndim))
        moved = array.transpose(*self.axes, *rest)
        return moved[tuple(slice(None, None, -1 if f else 1) for f in self.flips)]

    def apply_to_grid(self, grid: Grid) -> Grid:
        """The grid of an array reordered by `apply`: every voxel keeps its place in the world."""
        shape = tuple(grid.shape[a] for a in self.axes)
        step = np.zeros((4, 4))
        step[3, 3] = 1
        for target, (source, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            step[source, target] = -1 if flip else 1
            if flip:
                step[source, 3] = shape[target] - 1
        return Grid((shape[0], shape[1], shape[2]), grid.affine @ step, grid.in_mm)


def canonical_reordering(grid: Grid, axis: str | None = None) -> Reordering:
    """How to reorder an array so that d runs along an anatomical axis and slices look upright.

    Args:
        grid: the grid as stored.
        axis: "S" (axial slices), "A" (coronal) or "R" (sagittal); None takes `slice_axis`.
    """
    axis = axis or slice_axis(grid)
    if axis not in _CANONICAL_DIRECTIONS:
        raise UsageError(f"slice axis {axis!r} is unknown; use S (axial), A (coronal) or R (sagittal)")
    return _reordering(grid.directions, _CANONICAL_DIRECTIONS[axis])


def reslicing(axis: str, other: str) -> Reordering:
    """How to reorder an array that is in canonical order across one slice axis to that across another."""
    return _reordering(_CANONICAL_DIRECTIONS[axis], _CANONICAL_DIRECTIONS[other])


def _reordering(source: str, target: str) -> Reordering:
    axes, flips = [], []
    for letter in target:
        position = source.find(letter)
        flips.append(position < 0)
        axes.append(position if position >= 0 else source.index(_OPPOSITE[letter]))
    return Reordering((axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2]))


def reordering_between(source: Grid, target: Grid) -> Reordering:
    """The reordering that takes an array on `source` to one on `target`.

    Raises:
        GeometryMismatch: the grids do not hold the same voxels.
    """
    found = _reordering(source.directions, target.directions)
    if not found.apply_to_grid(source).same_space(target):
        raise GeometryMismatch(
            f"these grids hold different voxels: {source.describe()} and {target.describe()}"
        )
    return found
