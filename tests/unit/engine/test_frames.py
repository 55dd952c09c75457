import numpy as np
import pytest
import torch

from builders import make_example, make_volume
from fakes import FakeBackbone
from unprompted.engine.frames import EncodedFrames, support_frames, to_frames, to_label_frame
from unprompted.engine.limits import Limits
from unprompted.intensity import Intensity
from unprompted.support import SupportSet

AS_STORED = Intensity("rgb", 0, 255)


class CountingBackbone(FakeBackbone):
    """Keeps how many frames each call encoded."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def encode(self, frames):
        self.calls.append(len(frames))
        return super().encode(frames)


def slices_of(count):
    return AS_STORED.apply(make_volume((count, 32, 32)).voxels)


def test_slices_of_the_model_size_come_through_untouched():
    slices = np.random.default_rng(0).random((2, 64, 64), np.float32)
    frames = to_frames(slices, 64)
    assert frames.shape == (2, 3, 64, 64)
    for channel in range(3):
        assert np.array_equal(frames[:, channel].numpy(), slices)


def test_the_whole_slice_fills_the_square():
    left_half = np.zeros((1, 10, 40), np.float32)
    left_half[:, :, :20] = 1
    frame = to_frames(left_half, 64)[0, 0]
    assert frame[:, :30].min() == 1
    assert frame[:, 34:].max() == 0


@pytest.mark.parametrize("size", [32, 200])
def test_frames_stay_within_0_and_1(size):
    frames = to_frames(np.random.default_rng(0).random((1, 90, 50), np.float32), size)
    assert frames.shape == (1, 3, size, size)
    assert frames.min() >= 0
    assert frames.max() <= 1


def test_shrinking_averages_instead_of_picking():
    stripes = np.zeros((1, 64, 64), np.float32)
    stripes[:, :, ::2] = 1
    frame = to_frames(stripes, 16)[0, 0]
    assert float((frame - 0.5).abs().max()) < 0.1


def test_colours_keep_their_channels():
    picture = np.zeros((1, 8, 8, 3), np.float32)
    picture[..., 1] = 0.5
    frame = to_frames(picture, 16)[0]
    assert frame[0].max() == 0
    assert frame[1].min() == frame[1].max() == 0.5


def test_a_label_frame_of_the_model_size_keeps_its_values():
    labels = np.random.default_rng(0).choice([0, 3, 7], (64, 64)).astype(np.uint8)
    frame = to_label_frame(labels, [3, 7], 64)
    assert frame.dtype == torch.int16
    assert np.array_equal(np.array([0, 3, 7])[frame.numpy()], labels)


def test_object_numbers_follow_the_order_of_the_values():
    labels = np.array([[0, 5], [2, 9]], np.uint8)
    assert to_label_frame(labels, [2, 5], 2).tolist() == [[0, 2], [1, 0]]  # 9 was not asked for


def test_labels_above_255_are_kept_apart():
    labels = np.array([[0, 300], [301, 0]], np.uint16)
    assert to_label_frame(labels, [300, 301], 2).tolist() == [[0, 1], [2, 0]]


@pytest.mark.parametrize("size", [32, 128])
def test_labels_resized_there_and_back_are_as_they_were(size):
    labels = np.zeros((64, 64), np.uint8)
    labels[8:32, 8:40], labels[40:56, 16:48] = 1, 2
    there = to_label_frame(labels, [1, 2], size)
    back = to_label_frame(there.numpy(), [1, 2], 64).numpy()
    assert (back != labels).mean() < 0.01
    assert set(np.unique(there)) == {0, 1, 2}


def test_resizing_invents_no_class_between_two():
    labels = np.zeros((64, 64), np.uint8)
    labels[:, :20], labels[:, 20:40], labels[:, 40:] = 1, 3, 0
    assert set(np.unique(to_label_frame(labels, [1, 2, 3], 48))) == {0, 1, 3}


def test_support_frames_know_their_cases_and_places():
    image = np.full((10, 12), 51.0)
    labels = np.zeros((10, 12))
    labels[2:6, 3:9] = 4
    support = SupportSet(
        (
            make_example(image, labels, "b", 3),
            make_example(image, 0 * labels, "a", 1),
            make_example(image, labels, "b", 2),
        ),
        {4: "liver"},
    )
    frames = support_frames(support, AS_STORED, 64)
    assert frames.cases == (0, 1, 1)
    assert frames.positions == (1, 2, 3)
    assert frames.objects == 1
    assert frames.shows().tolist() == [[False], [True], [True]]
    torch.testing.assert_close(frames.pixels, torch.full((3, 3, 64, 64), 0.2))


def test_support_is_scaled_case_by_case():
    dark, bright = np.linspace(0, 10, 64).reshape(8, 8), np.linspace(0, 500, 64).reshape(8, 8)
    labels = np.ones((8, 8))
    support = SupportSet((make_example(dark, labels, "a"), make_example(bright, labels, "b")), {1: "x"})
    first, second = support_frames(support, Intensity("percentile", 0.5, 99.5), 8).pixels
    torch.testing.assert_close(first, second)


def test_masks_of_a_frame_are_one_an_object():
    labels = np.array([[0, 1], [2, 1]])
    support = SupportSet((make_example(np.zeros((2, 2)), labels),), {1: "a", 2: "b"})
    masks = support_frames(support, AS_STORED, 2).masks(0)
    assert masks.tolist() == [[[False, True], [False, True]], [[False, False], [True, False]]]


def test_every_frame_is_encoded_once_while_all_are_kept():
    backbone = CountingBackbone()
    frames = EncodedFrames(backbone, slices_of(20))
    frames.pooled()
    for t in reversed(range(20)):
        frames[t]
    assert backbone.calls == [8, 8, 4]


def test_frames_that_were_dropped_are_encoded_to_the_same_features():
    slices = slices_of(30)
    kept = EncodedFrames(FakeBackbone(), slices)
    expected = [kept[t].levels for t in range(30)]
    backbone = CountingBackbone()
    dropping = EncodedFrames(backbone, slices, Limits(kept_bytes=1))
    order = [*range(30), *reversed(range(30))]
    for t in order:
        assert all(torch.equal(a, b) for a, b in zip(dropping[t].levels, expected[t], strict=True))
    assert sum(backbone.calls) > 30


def test_descriptors_are_those_of_the_frames():
    frames = EncodedFrames(FakeBackbone(), slices_of(10))
    assert len(frames) == 10
    pooled = frames.pooled()
    assert pooled.shape == (10, 16)
    assert torch.equal(pooled[9], frames[9].pooled)
