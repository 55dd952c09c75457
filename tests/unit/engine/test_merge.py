import pytest
import torch

from unprompted.engine.merge import merge


def test_the_strongest_object_wins_and_background_where_none_is_positive():
    first = [[2.0, -1.0, 0.0], [3.0, -5.0, 1.0]]
    second = [[1.0, -2.0, -3.0], [4.0, 0.5, 1.0]]
    number, _ = merge(torch.tensor([[first], [second]]), 2, 3)
    assert number.tolist() == [[1, 0, 0], [2, 2, 1]]  # a logit of 0 is background, a tie is the first


def test_the_probability_is_that_of_the_choice():
    logits = torch.tensor([[[[2.0, -2.0, 0.0]]], [[[1.0, -4.0, -1.0]]]])
    number, probability = merge(logits, 1, 3)
    assert number.tolist() == [[1, 0, 0]]
    # sigmoid(2), 1 - sigmoid(-2) and 1 - sigmoid(0)
    assert probability[0].tolist() == pytest.approx([0.880797, 0.880797, 0.5], abs=1e-6)


def test_an_absent_object_is_certain_background():
    number, probability = merge(torch.full((2, 1, 4, 4), -1024.0), 8, 8)
    assert not number.any()
    assert probability.min() == 1


def test_masks_come_back_at_the_size_of_the_slice():
    logits = torch.full((1, 1, 4, 4), -8.0)
    logits[:, :, :, :2] = 8
    number, probability = merge(logits, 10, 6)
    assert number.shape == probability.shape == (10, 6)
    assert number.tolist() == [[1, 1, 1, 0, 0, 0]] * 10


def test_half_precision_logits_are_merged_in_full():
    _, probability = merge(torch.zeros(1, 1, 2, 2, dtype=torch.bfloat16), 2, 2)
    assert probability.dtype == torch.float32
