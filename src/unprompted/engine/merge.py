"""From the logits of K objects to one exclusive label slice."""

import torch
import torch.nn.functional as F
from torch import Tensor


def merge(logits: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The strongest object at every pixel, background where none is positive.

    Args:
        logits: ``(K, 1, h, w)``.
        height: of the slice.
        width: of the slice.

    Returns:
        Object numbers ``(H, W)`` int64, 0 for background, and the probability of the choice
        ``(H, W)`` float32.
    """
    full = F.interpolate(logits.float(), (height, width), mode="bilinear", align_corners=False)[:, 0]
    strongest, index = full.max(dim=0)
    chosen = strongest > 0
    number = torch.where(chosen, index + 1, torch.zeros_like(index))
    probability = strongest.sigmoid()
    return number, torch.where(chosen, probability, 1 - probability)


def probabilities(logits: Tensor, height: int, width: int) -> Tensor:
    """The probability of every object at every pixel, ``(K, 1, h, w)`` to ``(H, W, K)`` float32."""
    full = F.interpolate(logits.float(), (height, width), mode="bilinear", align_corners=False)[:, 0]
    return full.sigmoid().permute(1, 2, 0)


def merge_probabilities(soft: Tensor) -> tuple[Tensor, Tensor]:
    """As `merge`, of probabilities ``(H, W, K)``: background where none is above one half."""
    strongest, index = soft.max(dim=2)
    chosen = strongest > 0.5
    number = torch.where(chosen, index + 1, torch.zeros_like(index))
    return number, torch.where(chosen, strongest, 1 - strongest)
