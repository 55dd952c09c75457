import copy
import re

import pytest
import torch
from torch import nn

from small import make_backbone
from unprompted.backbones.base import MemoryBank
from unprompted.backbones.lora import (
    ENCODER,
    EVERYWHERE,
    QueryValue,
    add_adapters,
    load_changes,
    merge_adapters,
    remove_adapters,
)
from unprompted.backbones.sam2 import Sam2Backbone
from unprompted.backbones.weights import parameters_digest

RANK = 4


@pytest.fixture(scope="module")
def plain(single_thread):
    return make_backbone()


@pytest.fixture
def model(plain):
    return copy.deepcopy(plain.model)


@torch.no_grad()
def output_of(model):
    """Mask logits along the whole path: a frame attends to another one with a square in memory."""
    backbone = Sam2Backbone(model, "small")
    seen, asked = backbone.encode(torch.rand(2, 3, 128, 128, generator=torch.Generator().manual_seed(1)))
    square = torch.zeros(1, 128, 128)
    square[:, 32:96, 32:96] = 1
    entry = backbone.remember(seen, backbone.adopt(seen, square))
    fused = backbone.attend(asked, MemoryBank((entry,)).recall(0, 0, 1), 1)
    return backbone.decode(fused, asked).raw


def targets_of(model):
    linears = ((n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear))
    return {name: module for name, module in linears if re.fullmatch(EVERYWHERE, name)}


def trained(model):
    """Gives adapters some content: fresh ones do nothing. Returns what would be saved."""
    source = torch.Generator().manual_seed(2)
    adapters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for parameter in adapters.values():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=source))
    return {name: parameter.detach().clone() for name, parameter in adapters.items()}


def test_fresh_adapters_leave_the_output_as_it_is_to_the_bit(plain, model):
    add_adapters(model, RANK)
    assert torch.equal(output_of(model), output_of(plain.model))


def test_adapters_sit_on_attention_of_encoder_memory_and_decoder(plain):
    names = targets_of(plain.model)
    for part in ("vision_encoder", "memory_attention", "mask_decoder"):
        assert any(name.startswith(part) for name in names)
    assert not any(name.startswith("memory_encoder") for name in names)
    assert {name.split(".")[-1] for name in names} == {"qkv", "q_proj", "v_proj"}


def test_query_and_value_get_two_thin_matrices_each_and_nothing_else_is_trained(plain, model):
    expected = sum(
        2 * RANK * (m.in_features + m.out_features // 3)
        if name.endswith("qkv")
        else RANK * (m.in_features + m.out_features)
        for name, m in targets_of(plain.model).items()
    )
    add_adapters(model, RANK)
    trainable = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert sum(p.numel() for p in trainable.values()) == expected
    assert all(".lora_A." in name or ".lora_B." in name for name in trainable)


def test_adapters_of_the_encoder_alone_count_as_the_formula_says(model):
    """Widths 8, 16, 24, 32 with one block each; a block between stages maps d to d' = the next width."""
    add_adapters(model, RANK, targets=ENCODER)
    trainable = [p.numel() for p in model.parameters() if p.requires_grad]
    assert sum(trainable) == 2 * RANK * ((8 + 8) + (8 + 16) + (16 + 24) + (24 + 32))


def test_hiera_small_has_377856_parameters_in_adapters_of_rank_16():
    from transformers import Sam2HieraDetConfig, Sam2HieraDetModel

    small = Sam2HieraDetConfig(
        embed_dim_per_stage=[96, 192, 384, 768], blocks_per_stage=[1, 2, 11, 2], hidden_size=96
    )
    with torch.device("meta"):
        model = Sam2HieraDetModel(small)
    linears = [m for n, m in model.named_modules() if re.fullmatch(ENCODER, n)]
    assert len(linears) == 16
    halves = [(m.in_features, QueryValue(m.out_features // 3, 16)) for m in linears]
    assert sum(2 * 16 * d + sum(p.numel() for p in up.parameters()) for d, up in halves) == 377_856


def test_the_second_half_reaches_query_and_value_and_leaves_the_key():
    up = QueryValue(width=2, rank=1)
    with torch.no_grad():
        up.query.copy_(torch.tensor([[1.0], [2.0]]))
        up.value.copy_(torch.tensor([[3.0], [4.0]]))
    assert up(torch.tensor([10.0, 100.0])).tolist() == [10, 20, 0, 0, 300, 400]


def test_removed_adapters_leave_the_model_as_it_was(plain, model):
    add_adapters(model, RANK)
    trained(model)
    remove_adapters(model)
    assert parameters_digest(model) == parameters_digest(plain.model)


def test_one_set_of_adapters_is_swapped_for_another(plain, model):
    add_adapters(model, RANK)
    trained(model)
    remove_adapters(model)
    add_adapters(model, RANK + 1, targets=ENCODER)
    other = trained(model)
    merge_adapters(model)
    again = copy.deepcopy(plain.model)
    load_changes(again, other)
    assert parameters_digest(model) == parameters_digest(again) != parameters_digest(plain.model)


def test_another_input_size_shares_adapters_too(plain, model):
    add_adapters(model, RANK)
    trained(model)
    larger = Sam2Backbone(model, "small").sharing_weights_at(256)
    own = dict(model.named_parameters())
    assert all(parameter is own[name] for name, parameter in larger.model.named_parameters())
    assert {n for n, p in larger.model.named_parameters() if p.requires_grad} == {
        n for n in own if "lora_" in n
    }


def test_a_seed_decides_fresh_adapters_and_the_random_generator_stays(plain):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    models = [copy.deepcopy(plain.model) for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        add_adapters(model, RANK, seed)
    assert torch.equal(torch.rand(1), expected)
    first, again, other = map(parameters_digest, models)
    assert first == again != other


def test_merged_adapters_give_the_same_output_and_none_remains(plain, model):
    add_adapters(model, RANK)
    trained(model)
    expected = output_of(model)
    assert not torch.allclose(expected, output_of(plain.model), atol=1e-3)
    merge_adapters(model)
    torch.testing.assert_close(output_of(model), expected, atol=1e-5, rtol=1e-5)
    assert not any("lora" in type(module).__module__ for module in model.modules())
    assert model.state_dict().keys() == plain.model.state_dict().keys()


def test_saved_adapters_make_the_same_model_again(plain, model):
    add_adapters(model, RANK)
    saved = trained(model)
    merge_adapters(model)
    again = copy.deepcopy(plain.model)
    load_changes(again, saved)
    assert parameters_digest(again) == parameters_digest(model)
    assert not again.training
    assert not any(p.requires_grad for p in again.parameters())


def test_saved_weights_replace_those_of_the_model(plain, model):
    name = "no_memory_embedding"
    load_changes(model, {name: torch.full_like(plain.model.state_dict()[name], 0.5)})
    changed = [n for n, v in model.state_dict().items() if not torch.equal(v, plain.model.state_dict()[n])]
    assert changed == [name]


@pytest.mark.parametrize("shape", [(1,), (3, 5)])
def test_tensors_without_a_place_are_refused(model, shape):
    with pytest.raises(KeyError, match="2 tensors have no place in the model, no_memory_embedding first"):
        load_changes(model, {"no_memory_embedding": torch.zeros(shape), "unknown": torch.zeros(2)})


def test_another_input_size_shares_the_weights(plain):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    larger = plain.sharing_weights_at(256)
    assert torch.equal(torch.rand(1), expected)
    assert (larger.input_size, larger.name) == (256, "small")
    own = dict(plain.model.named_parameters())
    assert all(parameter is own[name] for name, parameter in larger.model.named_parameters())
    assert not any(parameter.requires_grad for parameter in own.values())
    assert larger.encode(torch.zeros(1, 3, 256, 256))[0].levels[2].shape == (1, 64, 16, 16)
    assert not larger.model.training
