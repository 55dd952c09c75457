"""Pseudo-mask attention: what a prior does to the mask decoder."""

import copy
import math

import pytest
import torch

from small import make_backbone
from unprompted.backbones.base import Prompt
from unprompted.backbones.lora import load_changes
from unprompted.backbones.prior import PriorAttention, add_prior_attention, prior_attention_of
from unprompted.backbones.sam2 import Sam2Backbone

SIDE = 8  # of the coarsest features at 128 pixels


@pytest.fixture(scope="module")
def plain(single_thread):
    return make_backbone()


@pytest.fixture
def heeding(plain):
    """A backbone that heeds priors, and its strengths."""
    model = copy.deepcopy(plain.model)
    add_prior_attention(model)
    return Sam2Backbone(model, "small"), prior_attention_of(model)


@torch.no_grad()
def decoded(backbone, prior):
    frame = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    (features,) = backbone.encode(frame)
    boxes = torch.tensor([[20.0, 30.0, 90.0, 100.0]])
    return backbone.decode(features.levels[2], features, Prompt(boxes=boxes, prior=prior)).raw


def half(side=32):
    prior = torch.zeros(1, 1, side, side)
    prior[..., : side // 2] = 1
    return prior


def test_the_bias_is_the_logarithm_of_the_prior_times_the_strength_of_each_head():
    added = PriorAttention(heads=2)
    with torch.no_grad():
        added.bias.copy_(torch.tensor([1.0, 2.0]))
    bias = added.attention_bias(torch.tensor([[[[1.0, 0.0]]]]))
    assert bias.shape == (1, 2, 1, 2)
    expected = math.log(0.05 / 1.05)  # log(P + 0.05) less the same for P = 1
    torch.testing.assert_close(bias[0, :, 0], torch.tensor([[0, expected], [0, 2 * expected]]))


def test_what_the_image_takes_from_tokens_is_weighted_by_the_prior():
    added = PriorAttention(heads=1)
    with torch.no_grad():
        added.update.fill_(1.0)
    weight = added.update_weight(torch.tensor([[[[1.0, 0.475, 0.0]]]]))
    torch.testing.assert_close(weight.flatten(), torch.tensor([1.0, 0.5, 0.05 / 1.05]))


def test_features_are_raised_where_the_prior_lies():
    added = PriorAttention(heads=1)
    with torch.no_grad():
        added.gain.fill_(0.5)
    raised = added.raised(torch.tensor([[[[2.0, 2.0]]]]), torch.tensor([[[[1.0, 0.0]]]]))
    assert raised.flatten().tolist() == [3, 2]


def test_fresh_strengths_leave_the_output_as_it_is_to_the_bit(plain, heeding):
    backbone, _ = heeding
    assert torch.equal(decoded(backbone, half()), decoded(plain, None))


def test_a_prior_of_ones_leaves_attention_unchanged(plain, heeding):
    backbone, strengths = heeding
    with torch.no_grad():
        strengths.bias.fill_(1.5)
        strengths.update.fill_(0.7)
    torch.testing.assert_close(decoded(backbone, torch.ones(1, 1, 32, 32)), decoded(plain, None))


@pytest.mark.parametrize("name", ["bias", "update", "gain"])
def test_with_any_strength_another_prior_gives_another_output(heeding, name):
    backbone, strengths = heeding
    with torch.no_grad():
        getattr(strengths, name).fill_(1.0)
    left, right = decoded(backbone, half()), decoded(backbone, 1 - half())
    assert (left - right).abs().max() > 1e-3
    assert torch.equal(left, decoded(backbone, half()))  # nothing stays behind in the decoder


def test_every_strength_gets_a_gradient(heeding):
    backbone, strengths = heeding
    backbone.model.requires_grad_(False)
    strengths.requires_grad_(True)
    (features,) = backbone.encode(torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1)))
    backbone.decode(features.levels[2], features, Prompt(prior=half())).raw.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in strengths.parameters())


def test_a_backbone_that_does_not_heed_priors_ignores_them(plain):
    assert torch.equal(decoded(plain, half()), decoded(plain, None))


def test_strengths_are_loaded_with_what_else_was_trained(plain, heeding):
    backbone, strengths = heeding
    with torch.no_grad():
        strengths.bias.fill_(1.0)
    name = "mask_decoder.prior_attention."
    saved = {name + n: p.detach().clone() for n, p in strengths.named_parameters()}
    model = copy.deepcopy(plain.model)
    load_changes(model, saved)
    assert torch.equal(decoded(Sam2Backbone(model, "small"), half()), decoded(backbone, half()))


def test_another_input_size_shares_the_strengths(heeding):
    backbone, strengths = heeding
    larger = backbone.sharing_weights_at(256)
    assert prior_attention_of(larger.model) is strengths
