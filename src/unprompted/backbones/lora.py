"""Low-rank adapters on query and value of attention (LoRA, Hu et al. 2021, arXiv:2106.09685) through peft."""

import re
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unprompted.backbones.prior import PRIOR, add_prior_attention

ENCODER = r".*attn\.qkv"  # Hiera's fused projection
EVERYWHERE = rf"{ENCODER}|.*(memory_attention|mask_decoder)\..*\.(q_proj|v_proj)"
_FUSED = "qkv"


class QueryValue(nn.Module):
    """The second half of two adapters on a fused projection: query and value get one each, key none.

    Args:
        width: outputs of each of the three projections; in blocks between stages more than inputs.
        rank: of each adapter.
    """

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(width, rank))
        self.value = nn.Parameter(torch.zeros(width, rank))

    @property
    def weight(self) -> Tensor:
        """Both as one matrix ``(3 width, 2 rank)``, which is what peft merges."""
        query, value = (
            F.pad(self.query, (0, self.query.shape[1])),
            F.pad(self.value, (self.value.shape[1], 0)),
        )
        return torch.cat([query, torch.zeros_like(query), value])

    def forward(self, inner: Tensor) -> Tensor:
        """From ``(..., 2 rank)`` to ``(..., 3 width)``."""
        return F.linear(inner, self.weight)


def add_adapters(model: Any, rank: int, seed: int = 0, targets: str = EVERYWHERE) -> None:
    """Freeze a model and add trainable adapters, in place; fresh ones leave its output as it is to the bit.

    A projection from ``d`` to ``d'`` channels gets ``rank * (d + d')`` parameters, a fused one twice that.

    Args:
        model: a `Sam2VideoModel`.
        rank: of the adapters; their scale is 1.
        seed: of the random half of each adapter; the other half is zero.
        targets: regular expression of the names of the projections.
    """
    from peft import LoraConfig, inject_adapter_in_model

    model.requires_grad_(False)
    fused = {f"^{re.escape(n)}$": 2 * rank for n, _ in model.named_modules() if n.endswith(f".{_FUSED}")}
    config = LoraConfig(
        r=rank, lora_alpha=rank, target_modules=targets, rank_pattern=fused, alpha_pattern=fused
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, model)
    for name, layer in adapted_layers(model).items():
        if name.endswith(f".{_FUSED}"):
            outer = layer.lora_B["default"].weight
            layer.lora_B["default"] = QueryValue(len(outer) // 3, rank).to(outer.device, outer.dtype)


def adapted_layers(model: Any) -> dict[str, Any]:
    """The layers of a model that have adapters, by name."""
    from peft.tuners.lora import LoraLayer

    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


def merge_adapters(model: Any) -> None:
    """Fold the adapters of a model into its weights, in place; none remains."""
    for layer in adapted_layers(model).values():
        layer.merge()
    remove_adapters(model)


def remove_adapters(model: Any) -> None:
    """Take the adapters off a model, in place; what they were put on remains."""
    for name, layer in adapted_layers(model).items():
        model.set_submodule(name, layer.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config  # or peft warns of earlier adapters


def load_changes(model: Any, tensors: dict[str, Tensor]) -> None:
    """Load what training changed, in place: adapters are merged, other weights replaced.

    Raises:
        KeyError: the tensors belong to another model.
    """
    first = {n.partition(".lora_A.")[0]: v for n, v in tensors.items() if ".lora_A." in n}
    modules = {name for name, _ in model.named_modules()}
    if first and first.keys() <= modules:
        ranks = {len(v) // (2 if name.endswith(f".{_FUSED}") else 1) for name, v in first.items()}
        add_adapters(model, ranks.pop(), targets="|".join(re.escape(name) for name in first))
    if any(f".{PRIOR}." in name for name in tensors):
        add_prior_attention(model)
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    unknown = sorted(name for name, value in tensors.items() if shapes.get(name) != value.shape)
    if unknown:
        raise KeyError(f"{len(unknown)} tensors have no place in the model, {unknown[0]} first")
    model.load_state_dict(tensors, strict=False)
    merge_adapters(model)
    model.eval().requires_grad_(False)
