"""Low-rank adapters on attention (LoRA, Hu et al. 2021, arXiv:2106.09685) through peft."""

from typing import Any

import torch
from torch import Tensor

# Hiera's fused projection, and query and value of memory attention and of the mask decoder.
TARGETS = r".*(attn\.qkv|(memory_attention|mask_decoder)\..*\.(q_proj|v_proj))"


def add_adapters(model: Any, rank: int, seed: int = 0) -> None:
    """Freeze a model and add trainable adapters, in place; fresh ones leave its output as it is to the bit.

    Args:
        model: a `Sam2VideoModel`.
        rank: of the adapters; their scale is 1.
        seed: of the random half of each adapter; the other half is zero.
    """
    from peft import LoraConfig, inject_adapter_in_model

    model.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=TARGETS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model)


def merge_adapters(model: Any) -> None:
    """Fold the adapters of a model into its weights, in place; none remains."""
    from peft.tuners.lora import LoraLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, module.get_base_layer())


def load_changes(model: Any, tensors: dict[str, Tensor]) -> None:
    """Load what adapting changed, in place: adapters are merged, other weights replaced.

    Raises:
        KeyError: the tensors belong to another model.
    """
    ranks = {value.shape[0] for name, value in tensors.items() if ".lora_A." in name}
    if ranks:
        add_adapters(model, rank=ranks.pop())
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    unknown = sorted(name for name, value in tensors.items() if shapes.get(name) != value.shape)
    if unknown:
        raise KeyError(f"{len(unknown)} tensors have no place in the model, {unknown[0]} first")
    model.load_state_dict(tensors, strict=False)
    merge_adapters(model)
    model.eval().requires_grad_(False)
