"""What adapting a backbone may cost, and how it is done."""

from dataclasses import dataclass
from typing import Literal

from unprompted.errors import UsageError
from unprompted.training.augment import STRONG, Augmentation


@dataclass(frozen=True)
class Adaptation:
    """How a backbone is fine-tuned on the support.

    Attributes:
        seconds: time budget; 0 adapts nothing unless `steps` are given.
        steps: budget of optimiser steps, so that the result does not depend on the speed of the machine;
            0 goes by time. Of both, what is spent first counts.
        learning_rate: peak, of AdamW; it falls to a tenth.
        frames: query frames a step.
        classes: most classes asked of a frame.
        retrieved: support frames in memory.
        pool: most support frames a class that are retrieved from.
        forgotten: support frames a step that are put in memory anew.
        half_share: share of steps at half the input size, which cost a quarter.
        alone: share of the budget during which cases are left out.
        left_out: share of the cases that are left out, at least one.
        checks: times those cases are segmented meanwhile.
        patience: checks without gain after which training without them ends.
        judged: frames segmented at a check.
        single_mask_share: share of steps that train the single-mask token.
        whole_below: backbones of fewer parameters are trained whole, others through LoRA.
        rank: of LoRA.
        precision: "no" or "bf16", mixed precision of training.
        augmentation: change of query and support frames.
    """

    seconds: float = 0.0
    steps: int = 0
    learning_rate: float = 1e-3
    frames: int = 8
    classes: int = 3
    retrieved: int = 3
    pool: int = 24
    forgotten: int = 3
    half_share: float = 0.7
    alone: float = 0.5
    left_out: float = 0.2
    checks: int = 4
    patience: int = 2
    judged: int = 10
    single_mask_share: float = 0.1
    whole_below: int = 20_000_000
    rank: int = 16
    precision: Literal["no", "bf16"] = "no"
    augmentation: Augmentation = STRONG

    def __post_init__(self) -> None:
        if self.seconds < 0 or self.steps < 0:
            raise UsageError(f"adaptation of {self.seconds:g} s and {self.steps} steps; give 0 or more")

    def __bool__(self) -> bool:
        return self.seconds > 0 or self.steps > 0
