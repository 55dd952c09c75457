"""How the mask decoder heeds a prior mask: attention biased towards it, features raised where it lies.

The pseudo-mask attention of SAM2-SGP (arXiv:2506.19658), as `docs/methods/sam2-sgp.md` writes it down. All
strengths start at zero, where a prior changes nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PRIOR = "prior_attention"  # the submodule of the mask decoder
_FLOOR = 0.05  # added to a probability before its logarithm


class PriorAttention(nn.Module):
    """Learned strengths of a prior: of the bias per attention head, of the update and of the gain.

    Args:
        heads: attention heads of the decoder.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(heads))
        self.update = nn.Parameter(torch.zeros(1))
        self.gain = nn.Parameter(torch.zeros(1))

    def attention_bias(self, prior: Tensor) -> Tensor:
        """What is added to scores of tokens on the image: ``(K, 1, g, g)`` to ``(K, heads, 1, HW)``.

        ``a_h log((P + 0.05) / 1.05)``: 0 where the prior is certain, so that a prior of ones is none.
        """
        return self.bias.view(1, -1, 1, 1) * _log(prior).flatten(2).unsqueeze(1)

    def update_weight(self, prior: Tensor) -> Tensor:
        """Factor on what the image takes from tokens: ``(K, 1, g, g)`` to ``(K, 1, HW, 1)``."""
        return (self.update * _log(prior)).exp().flatten(2).unsqueeze(3)

    def raised(self, fused: Tensor, prior: Tensor) -> Tensor:
        """Features ``X (1 + beta P)``, ``(K, C, g, g)``."""
        return fused * (1 + self.gain * prior)


def _log(prior: Tensor) -> Tensor:
    return ((prior + _FLOOR) / (1 + _FLOOR)).log()


def add_prior_attention(model: Any) -> None:
    """Let the mask decoder of a `Sam2VideoModel` heed priors, in place; at first they change nothing."""
    decoder = model.mask_decoder
    if prior_attention_of(model) is None:
        like = decoder.iou_token.weight
        added = PriorAttention(decoder.config.num_attention_heads).to(like.device, like.dtype)
        setattr(decoder, PRIOR, added)


def prior_attention_of(model: Any) -> PriorAttention | None:
    """How the mask decoder heeds priors; None where it does not."""
    found: PriorAttention | None = getattr(model.mask_decoder, PRIOR, None)
    return found


def resized_prior(prior: Tensor, side: int) -> Tensor:
    """A prior ``(K, 1, h, w)`` in 0..1 on the grid of the coarsest features, ``(K, 1, side, side)``."""
    return F.interpolate(prior, (side, side), mode="bilinear", align_corners=False, antialias=True)


@contextmanager
def weighted_updates(decoder: Any, weight: Tensor) -> Iterator[None]:
    """While it lasts, what the image takes from tokens in each block is weighted, ``(K, 1, HW, 1)``."""

    def weigh(module: nn.Module, given: Any, found: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
        return found[0] * weight, found[1]

    handles = [
        block.cross_attn_image_to_token.register_forward_hook(weigh) for block in decoder.transformer.layers
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
