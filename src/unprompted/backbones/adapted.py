"""A backbone whose weights were changed on a support, and how it is had again from what changed."""

import copy
from dataclasses import dataclass

from torch import Tensor

from unprompted.backbones.base import Backbone
from unprompted.backbones.lora import load_changes
from unprompted.backbones.sam2 import Sam2Backbone
from unprompted.errors import UsageError


@dataclass(frozen=True, eq=False)
class Adapted:
    """What came of training a backbone.

    Attributes:
        backbone: the adapted backbone, or the one given where adapting did not help.
        base_digest: digest of the backbone that was given.
        tensors: what changed in the backbone, to be saved; empty where adapting did not help.
        steps: optimiser steps taken on what is kept.
        history: ``(seconds, steps, Dice of the cases left out)`` of every check; the first is unadapted.
    """

    backbone: Backbone
    base_digest: str
    tensors: dict[str, Tensor]
    steps: int = 0
    history: tuple[tuple[float, int, float], ...] = ()


def trainable(backbone: Backbone) -> Sam2Backbone:
    """The backbone as one whose weights can be trained.

    Raises:
        UsageError: it is none.
    """
    if not isinstance(backbone, Sam2Backbone):
        raise UsageError(f"{backbone.name} cannot be adapted; use a SAM2 backbone or leave training out")
    return backbone


def restored(backbone: Backbone, tensors: dict[str, Tensor]) -> Adapted:
    """An adapted backbone again, from the one it came from and what had changed.

    Raises:
        UsageError: the backbone cannot be adapted.
        KeyError: the tensors belong to another model.
    """
    base = trainable(backbone)
    model = copy.deepcopy(base.model)
    load_changes(model, tensors)
    return Adapted(base.holding(model), base.digest, tensors)
