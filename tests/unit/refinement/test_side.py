import pytest
import torch

from unprompted.refinement.side import drawn_again, side_for


def square(side=256, edge=128):
    labels = torch.zeros(1, side, side, dtype=torch.int16)
    labels[:, :edge, :edge] = 1
    return labels


def stripes(side=256):
    """Lines of one pixel, three apart."""
    labels = torch.zeros(1, side, side, dtype=torch.int16)
    labels[:, :, ::3] = 1
    return labels


@pytest.mark.parametrize(("longest", "side"), [(20, 64), (50, 64), (65, 96), (120, 128), (512, 192)])
def test_the_side_is_that_of_the_slices_up_to_192(longest, side):
    assert side_for(longest, square()) == side


def test_classes_that_192_pixels_cannot_draw_get_256():
    assert side_for(512, stripes()) == 256


def test_the_side_is_never_larger_than_the_model_s_input():
    assert side_for(512, stripes(side=128)) == 128
    assert side_for(512, square(side=64, edge=32)) == 64


def test_labels_drawn_at_their_own_side_are_the_same():
    assert drawn_again(stripes(), 256) == 1.0


def test_lines_finer_than_a_cell_are_lost():
    assert drawn_again(stripes(), 64) < 0.7


def test_labels_without_a_class_lose_nothing():
    assert drawn_again(torch.zeros(1, 64, 64, dtype=torch.int16), 32) == 1.0
