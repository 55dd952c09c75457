import pytest
import torch

from fakes import FakeBackbone
from unprompted.errors import UsageError
from unprompted.methods.base import Place, SupportFrames, confidence_score
from unprompted.methods.sam2_mask import Sam2Mask


def make_support(shown):
    """Random frames; frame n shows the objects ``shown[n]``, each in its own quarter column."""
    pixels = torch.rand(len(shown), 3, 64, 64, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(len(shown), 64, 64, dtype=torch.uint8)
    for n, row in enumerate(shown):
        for k in row:
            labels[n, 16:48, 16 * k : 16 * k + 16] = k + 1
    objects = max(k for row in shown for k in row) + 1
    return SupportFrames(pixels, labels, objects, (0,) * len(shown), tuple(range(len(shown))))


def test_at_least_one_support_frame_is_asked_for():
    with pytest.raises(UsageError, match="supports is 0"):
        Sam2Mask(supports=0)


def test_nothing_is_learned():
    assert Sam2Mask().train(FakeBackbone(), make_support([[0]]), 0, print) == {}
    assert not Sam2Mask.needs_training


@pytest.mark.parametrize(("supports", "entries"), [(1, 1), (2, 2), (8, 4)])
def test_as_many_entries_as_the_best_shown_class_has_frames(supports, entries):
    fitted = Sam2Mask(supports).prepare(FakeBackbone(), make_support([[0, 1], [0], [0], [0], []]), {})
    assert len(fitted) == entries
    assert all(e.tokens.shape == (16, 2, 8) for e in fitted)


def test_a_class_shown_less_often_repeats_its_frames():
    fitted = Sam2Mask().prepare(FakeBackbone(), make_support([[0, 1], [0]]), {})
    assert torch.equal(fitted[0].tokens[:, 1], fitted[1].tokens[:, 1])
    assert not torch.equal(fitted[0].tokens[:, 0], fitted[1].tokens[:, 0])


def test_the_sweep_begins_at_the_first_frame_with_the_support_in_memory():
    method = Sam2Mask()
    fitted = method.prepare(FakeBackbone(), make_support([[0, 1]]), {})
    assert method.start(fitted, torch.zeros(7, 16)) == 0
    objects, bank = method.begin(fitted, torch.zeros(7, 16), 0)
    assert objects == 2
    assert bank.support == fitted
    assert bank.recent == {}


def test_a_support_frame_gets_its_own_masks_back_and_is_remembered():
    backbone, support, method = FakeBackbone(), make_support([[0, 2], [1]]), Sam2Mask()
    fitted = method.prepare(backbone, support, {})
    state, bank = method.begin(fitted, torch.zeros(1, 16), 0)
    features = backbone.encode(support.pixels[:1])[0]
    step = method.step(backbone, state, features, bank, Place(0, 0, 1))
    found = step.decoded.logits_full[:, 0] > 0
    for k in (0, 2):
        mask = support.masks(0)[k]
        assert float((found[k] & mask).sum() / (found[k] | mask).sum()) > 0.9
    assert torch.equal(step.quality, confidence_score(step.decoded))
    assert torch.equal(step.entry.tokens, backbone.remember(features, step.decoded).tokens)


def test_confidence_is_predicted_iou_times_presence():
    backbone = FakeBackbone()
    decoded = backbone.adopt(backbone.encode(torch.zeros(1, 3, 64, 64))[0], torch.zeros(1, 64, 64))
    # A given empty mask: quality 1, presence logit -10.
    assert float(confidence_score(decoded)) == pytest.approx(4.5398e-05, rel=1e-3)
