import numpy as np
import pytest

from builders import make_labels
from unprompted.errors import GeometryMismatch
from unprompted.evaluation.metrics import Overlap, overlaps


def test_dice_and_iou_of_two_small_masks():
    found = make_labels([[[1, 1, 0, 0], [1, 1, 0, 2]]])
    truth = make_labels([[[0, 1, 1, 0], [0, 1, 1, 0]]])
    measured = overlaps(found, truth, [1, 2])
    assert measured[1] == Overlap(tp=2, fp=2, fn=2, tn=2)
    assert measured[1].dice == 0.5
    assert measured[1].iou == 2 / 6
    assert measured[2] == Overlap(tp=0, fp=1, fn=0, tn=7)


@pytest.mark.parametrize(
    ("found", "truth", "dice", "missed", "spurious", "both_empty"),
    [
        ([0, 0], [1, 0], 0.0, True, False, False),
        ([1, 0], [0, 0], 0.0, False, True, False),
        ([0, 0], [0, 0], None, False, False, True),
        ([1, 0], [1, 0], 1.0, False, False, False),
        ([1, 0], [0, 1], 0.0, False, False, False),  # found in the wrong place: neither
    ],
)
def test_empty_masks_count_for_what_they_are(found, truth, dice, missed, spurious, both_empty):
    overlap = overlaps(make_labels([[found]]), make_labels([[truth]]), [1])[1]
    assert (overlap.dice, overlap.missed, overlap.spurious) == (dice, missed, spurious)
    assert overlap.both_empty == both_empty
    assert overlap.iou == dice


def test_only_slices_with_labels_are_measured():
    found = make_labels([[[1, 1]], [[1, 1]]])
    truth = make_labels([[[1, 0]], [[0, 0]]], labelled=np.array([True, False]))
    assert overlaps(found, truth, [1])[1] == Overlap(tp=1, fp=1, fn=0, tn=0)


@pytest.mark.parametrize(
    "other",
    [
        make_labels([[[1, 0, 0]]], spacing_mm=(1, 1, 1)),
        make_labels([[[1, 0]]], spacing_mm=(1, 1, 2)),
    ],
)
def test_other_grids_are_refused(other):
    with pytest.raises(GeometryMismatch, match="the prediction has shape"):
        overlaps(other, make_labels([[[1, 0]]], spacing_mm=(1, 1, 1)), [1])
