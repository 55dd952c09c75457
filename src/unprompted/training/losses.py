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


def detail_weights(target: Tensor, cell: int, emphasis: float) -> Tensor:
    """Weights ``(..., h, w)`` of pixels: 1, and more where cells of `cell` pixels cannot draw the target.

    Features at the coarsest level say one thing a cell; what is added, `emphasis` times the distance
    between the target and its mean over the cell, asks finer levels for the rest.
    """
    planes = target.reshape(-1, 1, *target.shape[-2:])
    coarse = F.avg_pool2d(planes, cell).repeat_interleave(cell, -2).repeat_interleave(cell, -1)
    return 1 + emphasis * (planes - coarse).abs().reshape(target.shape)


def mask_loss(logits: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy plus soft Dice of ``(..., h, w)``; Dice counts only where the object is present.

    Args:
        logits: predicted.
        target: 0..1.
        weights: factors on the cross-entropy of each pixel; None stands for ones.
    """
    present = (target.flatten(-2).amax(dim=-1) > 0).to(logits.dtype)
    entropy = F.binary_cross_entropy_with_logits(logits, target, weights, reduction="none")
    return entropy.mean(dim=(-2, -1)) + present * soft_dice_loss(logits, target)


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


def exclusive_loss(logits: Tensor, labels: Tensor, asked: Tensor) -> Tensor:
    """Cross-entropy plus soft Dice of classes that exclude each other, background at logit 0.

    Args:
        logits: ``(N, K, h, w)``.
        labels: ``(N, H, W)`` integers, 0 for background; averaged to the size of the logits.
        asked: classes that each frame is labelled for, ``(N, K)`` bool; others cost nothing.
    """
    classes = logits.shape[1] + 1
    one_hot = F.one_hot(labels.long(), classes).permute(0, 3, 1, 2).float()
    target = F.adaptive_avg_pool2d(one_hot, (logits.shape[-2], logits.shape[-1]))
    told = logits.masked_fill(~asked[:, :, None, None], torch.finfo(logits.dtype).min)
    chance = torch.cat([torch.zeros_like(told[:, :1]), told], dim=1).log_softmax(dim=1)
    entropy = -(target * chance.clamp(min=-100)).sum(dim=1)
    soft, true = chance.exp()[:, 1:], target[:, 1:]
    overlap, total = (soft * true).sum(dim=(0, 2, 3)), (soft + true).sum(dim=(0, 2, 3))
    shown = true.sum(dim=(0, 2, 3)) > 0
    dice = (1 - (2 * overlap + 1) / (total + 1))[shown]
    return entropy.mean() + (dice.mean() if bool(shown.any()) else 0.0)
