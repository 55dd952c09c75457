"""What a backbone is adapted for: which of its weights are trained, and how it segments a frame."""

import random
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from unprompted.adaptation.settings import Adaptation
from unprompted.backbones.base import Decoded, Features
from unprompted.backbones.lora import add_adapters
from unprompted.backbones.sam2 import Sam2Backbone
from unprompted.methods.similarity import LevelL1, Similarity
from unprompted.training.objective import candidate_loss

_GRID = 16  # side to which encoder levels are averaged before frames are compared
_DECAYED = 0.01  # weight decay of matrices


class Objective(Protocol):
    """How frames are segmented in training and in checks: as inference does it."""

    @property
    def measure(self) -> Similarity:
        """How alike two frames are, for retrieval."""
        ...

    def trained(self, model: Any, settings: Adaptation, seed: int) -> list[dict[str, Any]]:
        """Say in the model which weights are trained, and give them as groups for the optimiser.

        A group may have a ``factor`` on the learning rate.
        """
        ...

    def draw(self, pool: list[int], scores: dict[int, float], count: int, source: random.Random) -> list[int]:
        """Reorder a pool of support frames, best first, so that its first `count` are a draw for training."""
        ...

    def loss(
        self, backbone: Sam2Backbone, features: Features, fused: Tensor, target: Tensor, at: "Drawn"
    ) -> Tensor:
        """Loss of rows of conditioned features ``(R, C, g, g)`` against masks ``(R, S/4, S/4)`` in 0..1."""
        ...

    def decode(self, backbone: Sam2Backbone, features: Features, fused: Tensor) -> Decoded:
        """Masks of one frame as inference predicts them."""
        ...


@dataclass(frozen=True)
class Drawn:
    """Where training stands.

    Attributes:
        step: optimiser steps so far.
        source: of random numbers.
    """

    step: int
    source: random.Random


@dataclass(frozen=True)
class Propagation:
    """Memory attention and one decoding: what most methods do.

    Attributes:
        single_mask_share: share of steps that train the single-mask token.
    """

    single_mask_share: float = 0.1

    @property
    def measure(self) -> Similarity:
        """L1 over encoder levels."""
        return LevelL1(_GRID)

    def trained(self, model: Any, settings: Adaptation, seed: int) -> list[dict[str, Any]]:
        """Small models whole, others through adapters."""
        if sum(p.numel() for p in model.parameters()) < settings.whole_below:
            model.requires_grad_(True)
        else:
            add_adapters(model, settings.rank, seed)
        return decayed(model)

    def draw(self, pool: list[int], scores: dict[int, float], count: int, source: random.Random) -> list[int]:
        """Any of the best twice as many."""
        best = pool[: 2 * count]
        return source.sample(best, len(best)) + pool[2 * count :]

    def loss(
        self, backbone: Sam2Backbone, features: Features, fused: Tensor, target: Tensor, at: Drawn
    ) -> Tensor:
        """That of pretraining: mask, predicted overlap and presence."""
        several = at.source.random() >= self.single_mask_share
        return candidate_loss(backbone.candidates(fused, features, several=several), target)

    def decode(self, backbone: Sam2Backbone, features: Features, fused: Tensor) -> Decoded:
        """The best candidate."""
        return backbone.decode(fused, features)


def decayed(model: nn.Module) -> list[dict[str, Any]]:
    """Trained weights as two groups: matrices decay, vectors do not."""
    trained = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": _DECAYED},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]


def stacked(frames: list[Features]) -> Features:
    """Features of several frames as one record with a leading size."""
    levels = [torch.cat([f.levels[i] for f in frames]) for i in range(3)]
    return Features((levels[0], levels[1], levels[2]), frames[0].position)
