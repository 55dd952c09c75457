"""Losses and overlap measures on mask logits; reductions are over pixels, never over objects."""

import torch
import torch.nn.functional as F
from torch import Tensor


def soft_dice_loss(logits: Tensor, target: Tensor) -> Tensor:
    """One minus soft Dice of ``(..., h, w)`` logits and targets in 0..1, reduced to ``(...)``.

    Objects absent from the target give 0 only where nothing is predicted; the added 1 keeps the
    gradient finite for empty masks (V-Net, Milletari 2016, with the plain sum in the denominator).
    """
    probability = logits.sigmoid()
    overlap = (probability * target).sum(dim=(-2, -1))
    total = probability.sum(dim=(-2, -1)) + target.sum(dim=(-2, -1))
    return 1 - (2 * overlap + 1) / (total + 1)


def pixel_bce(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy averaged over pixels, ``(..., h, w)`` to ``(...)``."""
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(dim=(-2, -1))


def mask_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy plus soft Dice of ``(..., h, w)``; Dice counts only where the object is present."""
    present = (target.flatten(-2).amax(dim=-1) > 0).to(logits.dtype)
    return pixel_bce(logits, target) + present * soft_dice_loss(logits, target)


def hard_iou(logits: Tensor, target: Tensor) -> Tensor:
    """Intersection over union of masks thresholded at logit 0, ``(..., h, w)`` to ``(...)``; empty is 1."""
    predicted, true = logits > 0, target > 0.5
    overlap = (predicted & true).sum(dim=(-2, -1)).to(logits.dtype)
    union = (predicted | true).sum(dim=(-2, -1)).to(logits.dtype)
    return torch.where(union > 0, overlap / union.clamp(min=1), torch.ones_like(union))


def hard_dice(logits: Tensor, target: Tensor) -> Tensor:
    """Dice of masks thresholded at logit 0, ``(..., h, w)`` to ``(...)``; both empty is 1."""
    iou = hard_iou(logits, target)
    return 2 * iou / (1 + iou)
