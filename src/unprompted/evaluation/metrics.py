"""Overlap of two label maps, class by class."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from unprompted.errors import GeometryMismatch
from unprompted.images import LabelMap


@dataclass(frozen=True)
class Overlap:
    """Voxels of one class in one case.

    Attributes:
        tp: in both.
        fp: in the prediction only.
        fn: in the reference only.
        tn: in neither.
    """

    tp: int
    fp: int
    fn: int
    tn: int

    @property
    def n_pred(self) -> int:
        """Voxels of the prediction."""
        return self.tp + self.fp

    @property
    def n_ref(self) -> int:
        """Voxels of the reference."""
        return self.tp + self.fn

    @property
    def both_empty(self) -> bool:
        """The class is nowhere: nothing to measure."""
        return self.n_pred == 0 and self.n_ref == 0

    @property
    def missed(self) -> bool:
        """The class is there and nothing of it was found by name: Dice 0."""
        return self.n_ref > 0 and self.n_pred == 0

    @property
    def spurious(self) -> bool:
        """The class is not there and yet was predicted: Dice 0."""
        return self.n_ref == 0 and self.n_pred > 0

    @property
    def dice(self) -> float | None:
        """Twice the common voxels over the sum of both, None where both are empty."""
        return None if self.both_empty else 2 * self.tp / (self.n_pred + self.n_ref)

    @property
    def iou(self) -> float | None:
        """Common voxels over the union, None where both are empty."""
        return None if self.both_empty else self.tp / (self.tp + self.fp + self.fn)


def overlaps(prediction: LabelMap, reference: LabelMap, values: Iterable[int]) -> dict[int, Overlap]:
    """The overlap of each class, over the slices the reference has labels for.

    Args:
        prediction: on the grid of the reference.
        reference: slices marked as unlabelled are not counted.
        values: label values to measure.

    Raises:
        GeometryMismatch: the grids differ.
    """
    refuse_other_grids(prediction, reference)
    keep = slice(None) if reference.labelled is None else reference.labelled
    found, truth = prediction.labels[keep], reference.labels[keep]
    measured = {}
    for value in values:
        in_found, in_truth = found == value, truth == value
        tp = int(np.count_nonzero(in_found & in_truth))
        fp, fn = int(np.count_nonzero(in_found)) - tp, int(np.count_nonzero(in_truth)) - tp
        measured[int(value)] = Overlap(tp, fp, fn, found.size - tp - fp - fn)
    return measured


def refuse_other_grids(prediction: LabelMap, reference: LabelMap) -> None:
    """Do nothing where both lie on one grid.

    Raises:
        GeometryMismatch: they do not.
    """
    if not prediction.grid.same_space(reference.grid):
        raise GeometryMismatch(
            f"the prediction has {prediction.grid.describe()} but the reference has "
            f"{reference.grid.describe()}; bring both onto one grid (nearest neighbour)"
        )


def slice_dice(prediction: LabelMap, reference: LabelMap, value: int) -> float | None:
    """Mean Dice over the slices that show a class in either; None where none does.

    Some papers report this. It is not the Dice of the volume, and no mean of ours uses it unasked.
    """
    keep = slice(None) if reference.labelled is None else reference.labelled
    found, truth = prediction.labels[keep] == value, reference.labels[keep] == value
    total = found.sum(axis=(1, 2)) + truth.sum(axis=(1, 2))
    shown = total > 0
    if not shown.any():
        return None
    common = (found & truth).sum(axis=(1, 2))
    return float((2 * common[shown] / total[shown]).mean())
