import pytest
import torch

import unprompted.backbones.sam2 as sam2_module
from small import make_backbone
from unprompted.backbones.base import Recall


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
