from dataclasses import replace

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


def remembered(backbone, objects, seed=0):
    """A frame, and random memory of it: one entry of support, two of frames before."""
    source = torch.Generator().manual_seed(seed)
    side = backbone.input_size
    features = backbone.encode(torch.rand(1, 3, side, side, generator=source))[0]
    cells = (side // 16) ** 2
    tokens = [
        (slot, torch.randn(cells, objects, backbone.memory_width, generator=source)) for slot in (0, 1, 2)
    ]
    pointers = [(n, torch.randn(objects, backbone.channels, generator=source)) for n in (1, 2)]
    return features, Recall(tuple(tokens), tuple(pointers))


@torch.no_grad()
def test_looking_everywhere_is_looking_without_places(single_thread):
    backbone = make_backbone(256)
    features, recall = remembered(backbone, 2)
    everywhere = replace(recall, places=torch.ones(2, 256, dtype=torch.bool))
    assert torch.equal(backbone.attend(features, everywhere, 2), backbone.attend(features, recall, 2))


@torch.no_grad()
def test_a_frame_and_a_memory_that_are_alike_within_squares_lose_nothing_by_squares(single_thread):
    """Without codes of place every member of a square asks alike, and its mean stands for all of them."""
    backbone = make_backbone(256)
    features, recall = remembered(backbone, 2)
    for layer in backbone.model.memory_attention.layers:  # keys and queries that hold no place
        for attention in (layer.self_attn, layer.cross_attn_image):
            attention.k_proj.weight.zero_()
            attention.k_proj.bias.zero_()

    def squared(cells):
        return cells.view(8, 2, 8, 2, -1).mean(dim=(1, 3), keepdim=True).expand(8, 2, 8, 2, -1)

    coarse = squared(features.levels[2].flatten(2)[0].T).reshape(256, -1).T.view(features.levels[2].shape)
    features = replace(features, levels=(*features.levels[:2], coarse), position=0 * features.position)
    tokens = tuple((slot, squared(t.flatten(1)).reshape(t.shape)) for slot, t in recall.tokens)
    recall = replace(recall, tokens=tokens)
    places = torch.zeros(2, 256, dtype=torch.bool)
    places[0, 100:140] = True
    found = backbone.attend(features, replace(recall, places=places), 2)
    torch.testing.assert_close(found, backbone.attend(features, recall, 2), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_more_places_near_come_closer_to_looking_everywhere(single_thread):
    backbone = make_backbone(256)
    features, recall = remembered(backbone, 1)
    whole = backbone.attend(features, recall, 1)
    errors = []
    for side in (4, 8, 14):
        near = torch.zeros(16, 16, dtype=torch.bool)
        near[:side, :side] = True
        found = backbone.attend(features, replace(recall, places=near.view(1, 256)), 1)
        errors.append(float((found - whole).abs().mean()))
    assert errors[0] > errors[1] > errors[2] > 0


@torch.no_grad()
def test_each_object_has_its_own_places(single_thread):
    backbone = make_backbone(256)
    features, recall = remembered(backbone, 3)
    places = torch.rand(3, 256, generator=torch.Generator().manual_seed(1)) < 0.3
    together = backbone.attend(features, replace(recall, places=places), 3)
    for k in range(3):
        alone = backbone.attend(features, replace(recall, places=places).of(torch.tensor([k])), 1)
        torch.testing.assert_close(together[k : k + 1], alone, atol=1e-5, rtol=1e-4)
