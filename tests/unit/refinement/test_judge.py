import pytest
import torch

from unprompted.refinement.examples import Example
from unprompted.refinement.reading import Reading
from unprompted.refinement.trainer import Judged, judge


def example(labels, masks):
    """A frame of 8 x 8 pixels, labelled in quadrants, with masks that are found in quadrants, two classes."""
    logits = torch.full((1, 2, 2, 2), -8.0)
    for k, row, column in masks:
        logits[0, k - 1, row, column] = 8.0
    label = torch.tensor(labels).repeat_interleave(4, 0).repeat_interleave(4, 1)[None]
    shows = frozenset(k - 1 for row in labels for k in row if k)
    return Example(Reading(torch.zeros(1, 5, 8, 8), logits), label, torch.ones(1, 2, dtype=torch.bool), shows)


def test_a_mask_that_is_right_has_dice_1_and_a_class_not_shown_does_not_count():
    found = judge([example([[1, 0], [0, 0]], [(1, 0, 0)])], None)
    assert found.shown.tolist() == [True, False]
    assert found.dice == pytest.approx(1.0, abs=0.25)  # edges are smoothed


def test_a_class_that_is_found_elsewhere_has_dice_0():
    assert judge([example([[1, 0], [0, 0]], [(1, 1, 1)])], None).dice == 0.0


def test_frames_without_any_class_have_dice_0():
    assert judge([example([[0, 0], [0, 0]], [(1, 1, 1)])], None).dice == 0.0


def judged(shown=(True, True)):
    """IoU 0.3 and 0.8, expected 0.6 and 0.8."""
    parts = ([30.0, 80.0], [100.0, 100.0], [0.6, 0.8])
    return Judged(*(torch.tensor(part) for part in parts), torch.tensor(shown))


def test_dice_is_the_mean_over_classes():
    assert judged().dice == pytest.approx((60 / 130 + 160 / 180) / 2)


def test_trust_is_the_share_of_what_was_expected_half_of_it_from_all_classes():
    # shares 0.5 and 1.0, mean 0.75
    torch.testing.assert_close(judged().trust, torch.tensor([0.625, 0.875]))


def test_trust_in_a_class_that_is_not_shown_is_that_in_the_others():
    torch.testing.assert_close(judged((True, False)).trust, torch.tensor([0.5, 0.5]))


def test_trust_is_never_more_than_1():
    better = Judged(torch.tensor([90.0]), torch.tensor([100.0]), torch.tensor([0.5]), torch.tensor([True]))
    assert better.trust.tolist() == [1.0]
