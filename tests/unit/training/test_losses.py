import math

import pytest
import torch

from unprompted.training.losses import hard_dice, hard_iou, mask_loss, pixel_bce, soft_dice_loss

SURE = 100.0  # a logit whose sigmoid is 1


def grid(*rows):
    return torch.tensor(rows, dtype=torch.float32)


HALF_RIGHT = grid([SURE, SURE, -SURE, -SURE])
TRUTH = grid([1, 0, 1, 0])


def test_soft_dice_by_hand():
    # One of two predicted pixels is right, of two true ones: 1 - (2 * 1 + 1) / (2 + 2 + 1).
    assert float(soft_dice_loss(HALF_RIGHT, TRUTH)) == pytest.approx(0.4)


def test_soft_dice_of_an_undecided_mask():
    # Probabilities 0.5: overlap 1, sums 2 + 2.
    assert float(soft_dice_loss(torch.zeros(1, 4), TRUTH)) == pytest.approx(0.4)


def test_an_empty_mask_predicted_empty_costs_nothing():
    assert float(soft_dice_loss(torch.full((2, 2), -SURE), torch.zeros(2, 2))) == 0


def test_cross_entropy_is_averaged_over_pixels():
    assert float(pixel_bce(torch.zeros(3, 5), torch.ones(3, 5))) == pytest.approx(math.log(2))
    # log(1 + e) where a logit of 1 is wrong, log(1 + 1/e) where it is right
    assert float(pixel_bce(grid([1, 1]), grid([0, 1]))) == pytest.approx((1.313262 + 0.313262) / 2, abs=1e-5)


def test_the_mask_loss_adds_dice_only_where_the_object_is_present():
    logits = torch.zeros(2, 1, 4)
    target = torch.stack([TRUTH, torch.zeros(1, 4)])
    present, absent = mask_loss(logits, target).tolist()
    assert present == pytest.approx(math.log(2) + 0.4)
    assert absent == pytest.approx(math.log(2))


def test_an_object_of_soft_edges_alone_is_present():
    # Dice: overlap 0.5 * 0.4, sums 4 * 0.5 and 0.4.
    expected = math.log(2) + 1 - (2 * 0.2 + 1) / (2 + 0.4 + 1)
    assert float(mask_loss(torch.zeros(1, 4), grid([0.4, 0, 0, 0]))) == pytest.approx(expected)


def test_overlap_by_hand():
    assert float(hard_iou(HALF_RIGHT, TRUTH)) == pytest.approx(1 / 3)
    assert float(hard_dice(HALF_RIGHT, TRUTH)) == pytest.approx(1 / 2)


@pytest.mark.parametrize(
    ("logits", "target", "overlap"),
    [(-1.0, 0.0, 1.0), (-1.0, 1.0, 0.0), (1.0, 0.0, 0.0), (1.0, 1.0, 1.0)],
    ids=["both empty", "missed", "invented", "found"],
)
def test_overlap_of_whole_and_empty_masks(logits, target, overlap):
    assert float(hard_iou(torch.full((2, 2), logits), torch.full((2, 2), target))) == overlap
    assert float(hard_dice(torch.full((2, 2), logits), torch.full((2, 2), target))) == overlap


@pytest.mark.parametrize("measure", [soft_dice_loss, pixel_bce, mask_loss, hard_iou, hard_dice])
def test_objects_and_frames_are_measured_apart(measure):
    logits, target = torch.randn(3, 2, 4, 5), (torch.rand(3, 2, 4, 5) > 0.5).float()
    found = measure(logits, target)
    assert found.shape == (3, 2)
    torch.testing.assert_close(found[2, 1], measure(logits[2, 1], target[2, 1]))


def test_the_gradient_of_an_empty_mask_is_finite():
    logits = torch.full((1, 4, 4), -SURE, requires_grad=True)
    mask_loss(logits, torch.zeros(1, 4, 4)).sum().backward()
    assert bool(torch.isfinite(logits.grad).all())
