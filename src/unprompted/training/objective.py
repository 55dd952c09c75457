"""The in-context objective: one subject's masks in memory, another subject's frames to segment."""

import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unprompted.backbones.base import Features, MemoryBank, MemoryEntry, Prompt
from unprompted.backbones.sam2 import Candidates, Sam2Backbone
from unprompted.training.losses import detail_weights, hard_dice, hard_iou, mask_loss

_BEST_SHARE = 0.5  # of the mask loss on the best candidate; the rest trains all candidates alike
_PROBE_WEIGHT = 0.5
_SCALE_WEIGHT = 0.02  # on the squared logarithm of the features' size, which nothing else bounds
_MATCHING_WEIGHTS = ((2, 0.5), (1, 0.25))  # encoder level, weight of its matching loss
_MATCHING_SHARPNESS = 10.0  # factor on cosines before the softmax over support positions
_CELL = 4  # pixels of a mask at S/4 that one position of the coarsest level covers
_DETAIL = 4.0


@dataclass(frozen=True, eq=False)
class EpisodeBatch:
    """Episodes of equal layout, stacked.

    Attributes:
        pixels: ``(B, F, 3, S, S)`` in 0..1, support frames first.
        masks: ``(B, F, K, S, S)`` bool.
        supports: number of support frames.
    """

    pixels: Tensor
    masks: Tensor
    supports: int


@dataclass(frozen=True, eq=False)
class ObjectiveChoices:
    """What is drawn at random for one step.

    Attributes:
        single_mask: per query frame, whether the single-mask token is trained.
        boxed: whether query frames are prompted by a box too.
        jitter: ``(BK, 4)`` displacement of box corners, relative to the box's size.
    """

    single_mask: tuple[bool, ...]
    boxed: bool
    jitter: Tensor

    @classmethod
    def draw(
        cls, seed: int, queries: int, objects: int, single_mask_share: float, box_share: float
    ) -> "ObjectiveChoices":
        """Draw from a seed, the same on every device."""
        source = random.Random(seed)
        boxed = source.random() < box_share
        single = tuple(boxed or source.random() < single_mask_share for _ in range(queries))
        jitter = torch.tensor([[source.gauss(0, 0.05) for _ in range(4)] for _ in range(objects)])
        return cls(single, boxed, jitter)


def episode_loss(
    backbone: Sam2Backbone, batch: EpisodeBatch, choices: ObjectiveChoices, probe: nn.Module | None = None
) -> tuple[Tensor, Tensor]:
    """Loss and mean Dice (of the mask inference would pick) over the query frames of a batch.

    Query frames are predicted one after another with the model's own predictions as memory; their
    masks are detached, the memory encoder is trained through them.

    Args:
        backbone: the model in training.
        batch: episodes.
        choices: what is drawn at random.
        probe: maps attended features ``(N, C, g, g)`` to mask logits ``(N, 1, g, g)``; a short path
            from the loss to memory attention, thrown away after pretraining.
    """
    episodes, frames, classes = batch.masks.shape[:3]
    encoded = backbone.encode(batch.pixels.flatten(0, 1))
    targets = _low_resolution(batch.masks)
    seen = [_frame(encoded, f, frames, classes) for f in range(batch.supports)]
    shown = [batch.masks[:, f].flatten(0, 1) for f in range(batch.supports)]
    bank = MemoryBank(tuple(_remember_given(backbone, f, m) for f, m in zip(seen, shown, strict=True)))
    losses, dices = [], []
    for t, single in enumerate(choices.single_mask):
        frame = batch.supports + t
        features = _frame(encoded, frame, frames, classes)
        fused = backbone.attend(features, bank.recall(t, start=0, direction=1), episodes * classes)
        target = targets[:, frame].flatten(0, 1)
        prompt = _boxes(batch.masks[:, frame].flatten(0, 1), choices.jitter) if choices.boxed else None
        candidates = backbone.candidates(fused, features, prompt, several=not single)
        losses.append(candidate_loss(candidates, target))
        for level, weight in _MATCHING_WEIGHTS:
            losses[-1] = losses[-1] + weight * matching_loss(features, target, seen, shown, level)
        if probe is not None:
            losses[-1] = losses[-1] + _PROBE_WEIGHT * _probe_loss(probe(fused), target)
        decoded = backbone.choose(candidates, candidates.quality.argmax(dim=1))
        dices.append(hard_dice(decoded.logits[:, 0], target).detach())
        bank = bank.remembering(t, backbone.remember(features, decoded.detached()))
    size = torch.stack([f.levels[2].square().mean().sqrt() for f in encoded]).mean()
    loss = torch.stack(losses).mean() + _SCALE_WEIGHT * size.log().square()
    return loss, torch.stack(dices).mean()


def _low_resolution(masks: Tensor) -> Tensor:
    """Masks ``(B, F, K, S, S)`` as soft targets at S/4."""
    return F.avg_pool2d(masks.flatten(0, 2).float().unsqueeze(1), 4)[:, 0].unflatten(0, masks.shape[:3])


def _frame(encoded: list[Features], frame: int, frames: int, classes: int) -> Features:
    """Frame f of every episode, repeated for each class: leading size BK."""
    chosen = encoded[frame::frames]
    levels = [torch.cat([f.levels[i] for f in chosen]).repeat_interleave(classes, dim=0) for i in range(3)]
    return Features((levels[0], levels[1], levels[2]), chosen[0].position)


def _remember_given(backbone: Sam2Backbone, features: Features, masks: Tensor) -> MemoryEntry:
    return backbone.remember(features, backbone.adopt(features, masks))


def matching_loss(
    features: Features, target: Tensor, seen: list[Features], shown: list[Tensor], level: int = 2
) -> Tensor:
    """How well the features of one encoder level alone carry masks from support to query.

    Every query position takes the mask values of support positions, weighted by a softmax over cosine
    similarity. The path from loss to encoder is short, which is why in-context matching is learned in
    hundreds of steps rather than thousands.

    Args:
        features: query frame, ``(N, C, h, w)`` at the level.
        target: ``(N, S/4, S/4)`` in 0..1.
        seen: support frames, likewise.
        shown: their masks, ``(N, S, S)`` each.
        level: 0, 1 or 2 for strides 4, 8 and 16.
    """
    query = F.normalize(features.levels[level].flatten(2), dim=1)  # (N, C, q)
    keys = torch.cat([F.normalize(s.levels[level].flatten(2), dim=1) for s in seen], dim=2)  # (N, C, s)
    side = features.levels[level].shape[-1]
    values = torch.cat(
        [F.adaptive_avg_pool2d(m.float().unsqueeze(1), side).flatten(1) for m in shown], dim=1
    )  # (N, s)
    attention = (_MATCHING_SHARPNESS * query.transpose(1, 2) @ keys).softmax(dim=2)
    carried = (attention @ values.unsqueeze(2))[..., 0].clamp(1e-4, 1 - 1e-4)
    wanted = F.adaptive_avg_pool2d(target.unsqueeze(1), side).flatten(1)
    return F.binary_cross_entropy(carried, wanted)


def _probe_loss(logits: Tensor, target: Tensor) -> Tensor:
    coarse = F.adaptive_avg_pool2d(target.unsqueeze(1), logits.shape[-1])[:, 0]
    return mask_loss(logits[:, 0], coarse).mean()


def candidate_loss(candidates: Candidates, target: Tensor) -> Tensor:
    """Mask loss of the best candidate and of all, predicted IoU and presence."""
    wanted = target.unsqueeze(1).expand_as(candidates.logits)
    masks = mask_loss(candidates.logits, wanted, detail_weights(wanted, _CELL, _DETAIL))
    overlap = hard_iou(candidates.logits.detach(), wanted)
    present = (target.flatten(1).amax(dim=1, keepdim=True) > 0).to(target.dtype)
    quality = F.smooth_l1_loss(candidates.quality, overlap, beta=0.1)
    presence = F.binary_cross_entropy_with_logits(candidates.presence, present)
    best = masks.min(dim=1).values.mean()
    return _BEST_SHARE * best + (1 - _BEST_SHARE) * masks.mean() + quality + 0.5 * presence


def _boxes(masks: Tensor, jitter: Tensor) -> Prompt:
    """Jittered bounding boxes of ``(N, S, S)`` masks; an empty mask is boxed by the whole frame."""
    side = masks.shape[-1]
    corners = []
    for mask, noise in zip(masks, jitter.to(masks.device), strict=True):
        rows, columns = mask.any(dim=1).nonzero()[:, 0], mask.any(dim=0).nonzero()[:, 0]
        if len(rows) == 0:
            corners.append(noise.new_tensor([0.0, 0.0, side - 1.0, side - 1.0]))
            continue
        box = torch.stack([columns[0], rows[0], columns[-1], rows[-1]]).float()
        extent = torch.stack([box[2] - box[0], box[3] - box[1]]).repeat(2)
        corners.append((box + noise * extent).clamp(0, side - 1))
    return Prompt(boxes=torch.stack(corners))
