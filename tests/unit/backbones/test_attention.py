import pytest
import torch

import unprompted.backbones.sam2 as sam2_module
from small import make_backbone
from unprompted.backbones.attention import pooled
from unprompted.backbones.base import Recall
from unprompted.backbones.sam2 import Sam2Backbone
from unprompted.errors import UsageError


@pytest.mark.parametrize("objects", [1, 3])
@torch.no_grad()
def test_rearranged_memory_attention_gives_what_that_of_transformers_gives(
    single_thread, monkeypatch, objects
):
    backbone = make_backbone()
    source = torch.Generator().manual_seed(0)
    cells, width = (backbone.input_size // 16) ** 2, backbone.memory_width
    features = backbone.encode(torch.rand(1, 3, 128, 128, generator=source))[0]
    tokens = [(slot, torch.randn(cells, objects, width, generator=source)) for slot in (0, 0, 1, 2)]
    pointers = [(n, torch.randn(objects, backbone.channels, generator=source)) for n in (1, 2, 5)]
    recall = Recall(tuple(tokens), tuple(pointers))
    found = backbone.attend(features, recall, objects)
    monkeypatch.setattr(sam2_module, "rearranges", lambda *_: False)
    expected = backbone.attend(features, recall, objects)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)
    assert float((found - features.levels[2]).abs().mean()) > 0.1


def test_gradients_pass_through_it_as_through_that_of_transformers(single_thread, monkeypatch):
    backbone = make_backbone()
    source = torch.Generator().manual_seed(0)
    cells, width = (backbone.input_size // 16) ** 2, backbone.memory_width
    features = backbone.encode(torch.rand(1, 3, 128, 128, generator=source))[0]
    pointer = torch.randn(2, backbone.channels, generator=source)
    gradients = []
    for ours in (True, False):
        if not ours:
            monkeypatch.setattr(sam2_module, "rearranges", lambda *_: False)
        tokens = torch.randn(cells, 2, width, generator=torch.Generator().manual_seed(1)).requires_grad_()
        backbone.attend(features, Recall(((0, tokens),), ((1, pointer),)), 2).square().mean().backward()
        gradients.append(tokens.grad)
    assert float(gradients[1].abs().max()) > 0
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-7, rtol=1e-3)


def test_memory_is_averaged_over_squares_of_places():
    cells = torch.tensor([[0.0, 2, 10, 10], [4, 6, 10, 14], [1, 1, 0, 0], [1, 1, 0, 8]]).view(16, 1)
    assert pooled(cells, 2).flatten().tolist() == [3, 11, 1, 2]
    assert pooled(cells, 4).flatten().tolist() == [4.25]


@torch.no_grad()
def test_the_mean_of_a_square_counts_as_often_as_its_places_would(single_thread):
    """Where all keys are alike, attention is the plain mean over places and pointers, pooled or not."""
    backbone = make_backbone()
    for layer in backbone.model.memory_attention.layers:
        layer.cross_attn_image.k_proj.weight.zero_()
        layer.cross_attn_image.k_proj.bias.zero_()
    coarser = Sam2Backbone(backbone.model, "small", memory_pool=2)
    source = torch.Generator().manual_seed(0)
    features = backbone.encode(torch.rand(1, 3, 128, 128, generator=source))[0]
    tokens = torch.randn(64, 2, backbone.memory_width, generator=source)
    recall = Recall(((0, tokens),), ((1, 20 * torch.randn(2, backbone.channels, generator=source)),))
    torch.testing.assert_close(
        coarser.attend(features, recall, 2), backbone.attend(features, recall, 2), atol=1e-5, rtol=1e-4
    )


@torch.no_grad()
def test_pooled_memory_is_near_to_whole_memory_where_neighbours_are_alike(single_thread):
    backbone = make_backbone(256)
    features = backbone.encode(torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0)))[0]
    smooth = (
        torch.linspace(-1, 1, 16).view(16, 1, 1, 1).expand(16, 16, 1, backbone.memory_width).flatten(0, 1)
    )
    recall = Recall(((0, smooth), (1, -smooth)), ((1, torch.zeros(1, backbone.channels)),))
    whole = backbone.attend(features, recall, 1)
    errors = [
        float((Sam2Backbone(backbone.model, "small", pool).attend(features, recall, 1) - whole).abs().mean())
        for pool in (2, 4)
    ]
    assert 0 < errors[0] < errors[1]
    assert errors[0] < 0.02 * float(whole.abs().mean())


@pytest.mark.parametrize("pool", [0, 3])
def test_a_pool_that_does_not_tile_the_frame_is_refused(pool):
    with pytest.raises(UsageError, match=f"memory pool is {pool}, but the 8 places"):
        Sam2Backbone(make_backbone().model, "small", pool)


def test_another_input_size_keeps_the_pool():
    assert Sam2Backbone(make_backbone().model, "small", 2).sharing_weights_at(256).memory_pool == 2
