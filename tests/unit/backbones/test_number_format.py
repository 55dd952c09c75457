"""A backbone whose large parts compute in bfloat16."""

import copy

import pytest
import torch

from small import make_backbone
from unprompted.backbones.base import MemoryBank
from unprompted.backbones.sam2 import Sam2Backbone, computing_in


@pytest.fixture(autouse=True)
def _without_gradient(single_thread):
    with torch.no_grad():
        yield


def halved(backbone):
    return Sam2Backbone(computing_in(torch.bfloat16, copy.deepcopy(backbone.model)), backbone.name)


def seen(backbone):
    """Features, memory of a frame with two squares, and the masks of the next frame."""
    frames = torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(2, 128, 128)
    masks[0, 32:64, 32:64] = masks[1, 64:96, 64:96] = 1
    first, second = backbone.encode(frames)
    entry = backbone.remember(first, backbone.adopt(first, masks))
    recall = MemoryBank((entry,)).remembering(0, entry).recall(1, 0, 1)
    return second, entry, backbone.decode(backbone.attend(second, recall, 2), second)


def test_every_verb_gives_float32_whatever_the_weights_are_held_in():
    features, entry, decoded = seen(halved(make_backbone()))
    given = [
        *features.levels,
        features.position,
        entry.tokens,
        entry.pointer,
        decoded.logits,
        decoded.pointer,
    ]
    assert [tensor.dtype for tensor in given] == [torch.float32] * 8


def test_only_the_large_parts_change_their_number_format():
    model = halved(make_backbone()).model
    assert model.vision_encoder.backbone.pos_embed.dtype == torch.bfloat16
    assert model.memory_attention.layers[0].linear1.weight.dtype == torch.bfloat16
    assert model.mask_decoder.iou_token.weight.dtype == torch.float32
    assert model.memory_attention.rotary_emb.inv_freq.dtype == torch.float32  # a code, not a weight


def test_logits_in_bfloat16_are_those_of_float32_up_to_its_rounding():
    backbone = make_backbone()
    exact, rounded = seen(backbone)[2].raw, seen(halved(backbone))[2].raw
    error = float((exact - rounded).abs().mean() / exact.abs().mean())
    assert 0 < error < 0.03


def test_the_number_format_is_told_by_the_digest():
    backbone = make_backbone()
    assert backbone.digest != halved(backbone).digest
