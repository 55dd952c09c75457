"""Errors in millimetres and millilitres, by the surface definition of DeepMind's surface-distance.

Surfaces run between voxels and every point of them counts by its area (Nikolov et al., arXiv:1809.04430).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from surface_distance import (
    compute_average_surface_distance,
    compute_robust_hausdorff,
    compute_surface_dice_at_tolerance,
    compute_surface_distances,
)

from unprompted.errors import DataRefused
from unprompted.evaluation.metrics import refuse_other_grids
from unprompted.geometry import Grid
from unprompted.images import LabelMap

DEFAULT_TOLERANCE_MM = 1.0


@dataclass(frozen=True)
class Physical:
    """Errors of one class in one case.

    A missed or spurious class has NSD 0 and the image's diagonal as every distance; where the class is
    in neither, all are None.

    Attributes:
        nsd: share of both surfaces that lies within the tolerance of the other, 0..1.
        hd95_mm: the larger of the two directed 95th percentiles of the distance between the surfaces.
        hd_mm: the largest distance between the surfaces.
        masd_mm: mean of the two directed mean distances.
        volume_error_ml: absolute difference of the volumes.
        volume_bias_ml: volume of the prediction less that of the reference.
    """

    nsd: float | None = None
    hd95_mm: float | None = None
    hd_mm: float | None = None
    masd_mm: float | None = None
    volume_error_ml: float | None = None
    volume_bias_ml: float | None = None


def physical_errors(
    prediction: LabelMap,
    reference: LabelMap,
    values: Iterable[int],
    tolerance_mm: float = DEFAULT_TOLERANCE_MM,
) -> dict[int, Physical]:
    """The errors of each class, over the slices the reference has labels for.

    Args:
        prediction: on the grid of the reference.
        reference: its labelled slices lie beside each other.
        values: label values to measure.
        tolerance_mm: how far apart surfaces may lie to count as equal, for NSD.

    Raises:
        GeometryMismatch: the grids differ.
        DataRefused: the images have no size in millimetres, the grid is sheared, or unlabelled slices lie
            between labelled ones.
    """
    refuse_other_grids(prediction, reference)
    if not has_mm(reference):
        raise DataRefused(
            "distances in mm need images with a voxel size in mm, axes at right angles (no tilted gantry) "
            "and labelled slices beside each other; measure Dice and IoU only (--no-mm)"
        )
    keep = _labelled_block(reference)
    found, truth = prediction.labels[keep], reference.labels[keep]
    spacing = reference.grid.spacing
    diagonal = float(np.linalg.norm(np.multiply(truth.shape, spacing)))
    return {
        int(value): _of_class(found == value, truth == value, spacing, diagonal, tolerance_mm)
        for value in values
    }


def has_mm(labels: LabelMap) -> bool:
    """Whether distances in millimetres can be measured on these labels.

    They cannot on a sheared grid, as of a tilted gantry: neighbours there are not at right angles.
    """
    if not labels.grid.is_upright:
        return False
    if labels.labelled is None:
        return labels.grid.in_mm
    positions = np.flatnonzero(labels.labelled)
    connected = positions.size > 0 and positions[-1] - positions[0] + 1 == positions.size
    return labels.grid.in_mm and bool(connected)


def voxel_ml(grid: Grid) -> float:
    """The volume of a voxel in millilitres."""
    return float(abs(np.linalg.det(grid.affine[:3, :3]))) / 1000


def _of_class(
    found: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    spacing: tuple[float, float, float],
    diagonal: float,
    tolerance_mm: float,
) -> Physical:
    voxels = int(np.count_nonzero(found)), int(np.count_nonzero(truth))
    if not any(voxels):
        return Physical()
    bias = (voxels[0] - voxels[1]) * float(np.prod(spacing)) / 1000
    if not all(voxels):
        return Physical(0.0, diagonal, diagonal, diagonal, abs(bias), bias)
    surfaces = _surfaces(found, truth, spacing)
    return Physical(
        nsd=float(compute_surface_dice_at_tolerance(surfaces, tolerance_mm)),
        hd95_mm=float(compute_robust_hausdorff(surfaces, 95)),
        hd_mm=float(compute_robust_hausdorff(surfaces, 100)),
        masd_mm=float(np.mean(compute_average_surface_distance(surfaces))),
        volume_error_ml=abs(bias),
        volume_bias_ml=bias,
    )


def _surfaces(
    found: NDArray[np.bool_], truth: NDArray[np.bool_], spacing: tuple[float, float, float]
) -> dict[str, Any]:
    """Distances and areas of both surfaces; a single slice has contours rather than surfaces."""
    flat = [axis for axis, size in enumerate(truth.shape) if size == 1]
    if len(flat) == 1:
        found, truth = found.squeeze(flat[0]), truth.squeeze(flat[0])
        spacing_mm = [s for axis, s in enumerate(spacing) if axis != flat[0]]
    else:
        spacing_mm = list(spacing)
    surfaces: dict[str, Any] = compute_surface_distances(truth, found, spacing_mm)
    return surfaces


def _labelled_block(labels: LabelMap) -> slice:
    if labels.labelled is None:
        return slice(None)
    positions = np.flatnonzero(labels.labelled)
    return slice(int(positions[0]), int(positions[-1]) + 1)
