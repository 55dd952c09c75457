import pytest
import torch

from fakes import FakeBackbone
from unprompted.errors import UsageError
from unprompted.methods.base import Place, SupportFrames
from unprompted.methods.fs_medsam2 import FsMedSam2


def make_support(shown, cases=None, positions=None):
    """Random frames; frame n shows the objects ``shown[n]``, each in its own quarter column."""
    pixels = torch.rand(len(shown), 3, 64, 64, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(len(shown), 64, 64, dtype=torch.uint8)
    for n, row in enumerate(shown):
        for k in row:
            labels[n, 16:48, 16 * k : 16 * k + 16] = k + 1
    objects = max(k for row in shown for k in row) + 1
    count = len(shown)
    return SupportFrames(pixels, labels, objects, cases or (0,) * count, positions or tuple(range(count)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"parts": 0}, "parts is 0"),
        ({"video": "film"}, "use slice, top or middle"),
        ({"supports": "best"}, "use all or middle"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        FsMedSam2(**settings)


def test_nothing_is_learned():
    assert FsMedSam2().train(FakeBackbone(), make_support([[0]]), 0, print) == {}


def test_the_labelled_range_is_cut_into_parts_and_the_middle_of_each_supports():
    support = make_support([[]] + [[0]] * 9 + [[]])
    assert FsMedSam2().support_slices(support) == [[2, 5, 8]]
    assert FsMedSam2(parts=1).support_slices(support) == [[5]]


def test_parts_are_sorted_along_z_whatever_the_order_of_frames():
    z = (5, 0, 8, 3, 1, 7, 2, 6, 4)
    (frames,) = FsMedSam2().support_slices(make_support([[0]] * 9, positions=z))
    assert [z[frame] for frame in frames] == [1, 4, 7]


def test_the_middle_part_is_the_middle_along_z():
    z = (5, 0, 8, 3, 1, 7, 2, 6, 4)
    (frames,) = FsMedSam2(supports="middle").support_slices(make_support([[0]] * 9, positions=z))
    assert [z[frame] for frame in frames] == [4]


def test_every_class_has_a_range_of_its_own():
    support = make_support([[0], [0], [0, 1], [1], [1], [1], [1]])
    assert FsMedSam2().support_slices(support) == [[0, 1, 2], [2, 4, 6]]


def test_every_case_gives_its_parts():
    support = make_support([[0]] * 6, cases=(0, 0, 0, 1, 1, 1), positions=(0, 1, 2, 0, 1, 2))
    assert FsMedSam2().support_slices(support) == [[0, 1, 2, 3, 4, 5]]
    assert FsMedSam2(supports="middle").support_slices(support) == [[1, 4]]


def test_fewer_slices_than_parts_are_used_once():
    assert FsMedSam2().support_slices(make_support([[0], [0]])) == [[0, 1]]
    assert FsMedSam2().support_slices(make_support([[0]])) == [[0]]


@pytest.mark.parametrize(("video", "start"), [("slice", 0), ("top", 0), ("middle", 4)])
def test_the_sweep_begins_where_the_video_says(video, start):
    assert FsMedSam2(video=video).start((), torch.zeros(9, 16)) == start


@pytest.mark.parametrize(("video", "read"), [("slice", [0, 0, 0]), ("top", [0, 0, 0, 1])])
def test_slices_of_their_own_see_the_support_alone_and_volumes_what_came_before(video, read):
    backbone, support, method = FakeBackbone(), make_support([[0]] * 3), FsMedSam2(video=video)
    seen = []

    class Listening(FakeBackbone):
        def attend(self, features, recall, objects):
            seen.append([slot for slot, _ in recall.tokens])
            return super().attend(features, recall, objects)

    state, bank = method.begin(method.prepare(backbone, support, {}), torch.zeros(4, 16), 0)
    for position in range(2):
        (features,) = backbone.encode(support.pixels[[position]])
        step = method.step(Listening(), state, features, bank, Place(position, 0, 1))
        if step.entry is not None:
            bank = bank.remembering(position, step.entry)
    assert seen == [[0, 0, 0], read]


def test_a_support_slice_gets_its_own_mask_back():
    backbone, support, method = FakeBackbone(), make_support([[0, 1], [0], [1]]), FsMedSam2()
    state, bank = method.begin(method.prepare(backbone, support, {}), torch.zeros(1, 16), 0)
    (features,) = backbone.encode(support.pixels[[0]])
    step = method.step(backbone, state, features, bank, Place(0, 0, 1))
    masks, predicted = support.masks(0), step.decoded.logits_full[:, 0] > 0
    assert float((predicted & masks).sum() / (predicted | masks).sum()) > 0.8
