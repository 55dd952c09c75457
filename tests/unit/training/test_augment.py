from dataclasses import fields, replace

import pytest
import torch

from unprompted.training.augment import Augmentation

NOTHING = Augmentation(**{f.name: 0.0 for f in fields(Augmentation)})
SHAPE_ONLY = replace(Augmentation(), brightness=0, contrast=0, gamma=0, noise=0)


def make_sequence(frames=3, side=48):
    """A box that is bright where it is labelled: pixels are 0.2 outside and 0.8 inside."""
    labels = torch.zeros(frames, side, side, dtype=torch.int16)
    for t in range(frames):
        labels[t, 12 + t : 30 + t, 14:34] = 1 + t % 2
    pixels = torch.where(labels > 0, 0.8, 0.2)[:, None].expand(-1, 3, -1, -1).clone()
    return pixels, labels


def test_zero_ranges_leave_everything_as_it_is():
    pixels, labels = make_sequence()
    same_pixels, same_labels = NOTHING.draw(pixels, labels, seed=4)
    torch.testing.assert_close(same_pixels, pixels, atol=1e-5, rtol=0)
    assert torch.equal(same_labels, labels)


@pytest.mark.parametrize("seed", range(5))
def test_image_and_labels_move_together(seed):
    pixels, labels = make_sequence()
    moved, moved_labels = SHAPE_ONLY.draw(pixels, labels, seed)
    assert not torch.equal(moved_labels, labels)
    bright = moved[:, 0] > 0.5
    assert float((bright != (moved_labels > 0)).float().mean()) < 0.005


def test_a_sequence_is_moved_as_one():
    pixels, labels = make_sequence(frames=1)
    moved, moved_labels = SHAPE_ONLY.draw(pixels.repeat(3, 1, 1, 1), labels.repeat(3, 1, 1), seed=1)
    assert torch.equal(moved[0], moved[2])
    assert torch.equal(moved_labels[0], moved_labels[2])


def test_the_seed_decides_the_change():
    first, again, other = (Augmentation().draw(*make_sequence(), seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_the_global_random_generator_is_neither_used_nor_changed():
    torch.manual_seed(0)
    first = Augmentation().draw(*make_sequence(), seed=1)
    state = torch.get_rng_state()
    torch.manual_seed(99)
    second = Augmentation().draw(*make_sequence(), seed=1)
    assert torch.equal(first[0], second[0])
    torch.manual_seed(0)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("seed", range(5))
def test_pixels_stay_within_0_and_1_and_labels_stay_labels(seed):
    pixels, labels = make_sequence()
    changed, changed_labels = Augmentation().draw(pixels, labels, seed)
    assert changed.shape == pixels.shape
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 1
    assert changed_labels.dtype == labels.dtype
    assert set(changed_labels.unique().tolist()) <= {0, 1, 2}


def test_appearance_alone_leaves_the_labels():
    appearance = replace(NOTHING, brightness=0.2, contrast=0.3, gamma=0.3, noise=0.05)
    pixels, labels = make_sequence()
    changed, same_labels = appearance.draw(pixels, labels, seed=3)
    assert torch.equal(same_labels, labels)
    assert float((changed - pixels).abs().mean()) > 0.01


def test_what_comes_in_from_outside_is_background():
    away = replace(NOTHING, shift=0.4)
    everywhere = torch.ones(1, 32, 32, dtype=torch.uint8)
    _, labels = away.draw(torch.ones(1, 3, 32, 32), everywhere, seed=5)
    assert 0 < float((labels == 0).float().mean()) < 0.9


def test_the_sequence_handed_in_is_not_changed():
    pixels, labels = make_sequence()
    Augmentation().draw(pixels, labels, seed=1)
    expected_pixels, expected_labels = make_sequence()
    assert torch.equal(pixels, expected_pixels)
    assert torch.equal(labels, expected_labels)
