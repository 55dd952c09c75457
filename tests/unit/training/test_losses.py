import math

import pytest
import torch

from unprompted.training.losses import (
    detail_weights,
    exclusive_loss,
    hard_dice,
    hard_iou,
    mask_loss,
    soft_dice_loss,
)

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
    empty = torch.zeros(3, 5)
    assert float(mask_loss(empty, empty)) == pytest.approx(math.log(2))
    # log(1 + e) at two wrong logits of 1, log(1 + 1/e) at two right ones
    logits = grid([1, 1, -1, -1])
    assert float(mask_loss(logits, grid([0, 0, 0, 0]))) == pytest.approx((1.313262 + 0.313262) / 2, abs=1e-5)


def test_weights_count_pixels_of_the_cross_entropy():
    weights = grid([3, 1, 0, 0])
    assert float(mask_loss(torch.zeros(1, 4), torch.zeros(1, 4), weights)) == pytest.approx(math.log(2))


def test_pixels_that_differ_from_their_cell_weigh_more():
    # cells of 2 x 2: means 1/4 and 1; the one true pixel of the first is 3/4 away, the others 1/4
    target = grid([1, 0, 1, 1], [0, 0, 1, 1])
    expected = grid([1 + 4 * 0.75, 2, 1, 1], [2, 2, 1, 1])
    torch.testing.assert_close(detail_weights(target, cell=2, emphasis=4), expected)


ALL = torch.ones(1, 1, dtype=torch.bool)


def test_one_class_at_chance_costs_log_2_and_its_dice():
    labels = torch.tensor([[[1, 0, 1, 0]]])
    # probabilities 1/2: overlap 1, sums 2 + 2, so 1 - 3 / 5
    assert float(exclusive_loss(torch.zeros(1, 1, 1, 4), labels, ALL)) == pytest.approx(math.log(2) + 0.4)


def test_classes_that_exclude_each_other_share_one_probability():
    labels = torch.zeros(1, 1, 4, dtype=torch.int16)
    loss = exclusive_loss(torch.zeros(1, 3, 1, 4), labels, torch.ones(1, 3, dtype=torch.bool))
    assert float(loss) == pytest.approx(math.log(4))  # three classes and background, none shown


def test_a_class_that_a_frame_is_not_labelled_for_costs_nothing():
    logits = torch.zeros(1, 2, 1, 4)
    logits[:, 1] = SURE
    asked = torch.tensor([[True, False]])
    labels = torch.tensor([[[1, 0, 1, 0]]])
    assert float(exclusive_loss(logits, labels, asked)) == pytest.approx(math.log(2) + 0.4)


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


@pytest.mark.parametrize("measure", [soft_dice_loss, mask_loss, hard_iou, hard_dice])
def test_objects_and_frames_are_measured_apart(measure):
    logits, target = torch.randn(3, 2, 4, 5), (torch.rand(3, 2, 4, 5) > 0.5).float()
    found = measure(logits, target)
    assert found.shape == (3, 2)
    torch.testing.assert_close(found[2, 1], measure(logits[2, 1], target[2, 1]))


def test_the_gradient_of_an_empty_mask_is_finite():
    logits = torch.full((1, 4, 4), -SURE, requires_grad=True)
    mask_loss(logits, torch.zeros(1, 4, 4)).sum().backward()
    assert bool(torch.isfinite(logits.grad).all())
