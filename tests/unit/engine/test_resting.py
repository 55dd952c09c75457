from dataclasses import replace

import pytest
import torch

from fakes import FakeBackbone
from unprompted.backbones.base import MemoryBank, Prompt
from unprompted.engine.frames import EncodedFrames
from unprompted.engine.resting import EVERY, PATIENCE, Resting
from unprompted.engine.sweep import sweep
from unprompted.methods.base import SupportFrames
from unprompted.methods.sam2_mask import Sam2Mask


class Counting(FakeBackbone):
    """Writes down how many objects each frame decodes."""

    def __init__(self):
        super().__init__()
        self.decoded = []

    def decode(self, fused, features, prompt=None):
        self.decoded.append(len(fused))
        return super().decode(fused, features, prompt)


def frame_of(backbone):
    return backbone.encode(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))[0]


def filled(backbone, objects=4):
    """Features of a frame, and what it recalls: object k is a stripe."""
    features = frame_of(backbone)
    masks = torch.zeros(objects, 64, 64)
    for k in range(objects):
        masks[k, :, 16 * k : 16 * k + 16] = 1
    entry = backbone.remember(features, backbone.adopt(features, masks))
    return features, MemoryBank((entry,)).recall(0, 0, 1)


def looked(looking, features, recall, presence, prompt=None):
    """Decode one frame; then objects are given the presence logits."""
    decoded = looking.decode(looking.attend(features, recall, len(presence)), features, prompt)
    told = torch.tensor(presence)[:, None].float()
    return decoded, looking.after(replace(decoded, presence=told))


def test_a_class_rests_once_it_was_surely_absent_several_times_and_is_looked_at_in_turn():
    backbone = Counting()
    features, recall = filled(backbone)
    looking = Resting(backbone)
    for _ in range(PATIENCE + 2 * EVERY):
        _, looking = looked(looking, features, recall, [9, -9, -9, -9])
    assert (PATIENCE, EVERY) == (3, 4)
    assert backbone.decoded == [4, 4, 4, 2, 1, 2, 2, 2, 1, 2, 2]


def test_a_class_that_is_merely_doubtful_never_rests():
    backbone = Counting()
    features, recall = filled(backbone)
    looking = Resting(backbone)
    for _ in range(8):
        _, looking = looked(looking, features, recall, [9, -4, -4, -4])
    assert backbone.decoded == [4] * 8


def test_a_class_that_comes_back_is_looked_at_from_then_on():
    backbone = Counting()
    features, recall = filled(backbone)
    looking = Resting(backbone)
    for _ in range(PATIENCE):
        _, looking = looked(looking, features, recall, [9, -9, -9, -9])
    for _ in range(EVERY + 1):
        _, looking = looked(looking, features, recall, [9, 9, 9, 9])
    assert backbone.decoded[-1] == 4


@pytest.mark.parametrize("boxes", [False, True])
def test_classes_that_do_not_rest_are_decoded_as_without_rest(boxes):
    backbone = FakeBackbone()
    features, recall = filled(backbone)
    prompt = Prompt(boxes=torch.tensor([[4.0, 4, 40, 40]]).repeat(4, 1)) if boxes else None
    plain = backbone.decode(backbone.attend(features, recall, 4), features, prompt)
    looking = Resting(backbone)
    for _ in range(PATIENCE):
        _, looking = looked(looking, features, recall, [9, -9, 9, -9], prompt)
    decoded, _ = looked(looking, features, recall, [9, -9, 9, -9], prompt)
    for name in ("logits", "logits_full", "quality", "pointer"):
        for k in (0, 2):
            torch.testing.assert_close(getattr(decoded, name)[k], getattr(plain, name)[k])


def test_a_sweep_over_classes_that_are_always_there_is_the_same_with_rest():
    backbone = FakeBackbone()
    shown = torch.rand(6, 64, 64, generator=torch.Generator().manual_seed(1)).numpy()
    labels = torch.ones(1, 64, 64, dtype=torch.int16)
    labels[:, :, 32:] = 2
    method = Sam2Mask(supports=1)
    fitted = method.prepare(backbone, SupportFrames(torch.rand(1, 3, 64, 64), labels, 2, (0,), (0,)), {})
    plain, rested = (
        dict(sweep(method, seen, fitted, EncodedFrames(backbone, shown)))
        for seen in (backbone, Resting(backbone))
    )
    assert all(torch.equal(plain[t].decoded.logits, rested[t].decoded.logits) for t in range(6))
