"""What refinement may cost, and how it is done."""

from dataclasses import dataclass, field

from unprompted.errors import UsageError
from unprompted.training.augment import Augmentation

DEFAULT_STEPS = 400


@dataclass(frozen=True)
class Refinement:
    """How masks are refined by what the support teaches.

    Attributes:
        steps: optimiser steps with a case left out; half as many follow on all cases. 0 refines nothing.
        learning_rate: peak, of AdamW.
        batch: crops a step.
        width: channels of the network.
        grid: side of the grid of features it reads; finer features are averaged.
        examples: support frames and augmented copies of them that it learns from.
        judged: frames of the case left out that are looked at.
        checks: times they are looked at.
        shown_share: share of crops that show a class, each class as often as the others.
        augmentation: change of the copies.
    """

    steps: int = field(default_factory=lambda: DEFAULT_STEPS)
    learning_rate: float = 3e-3
    batch: int = 8
    width: int = 48
    grid: int = 64
    examples: int = 216
    judged: int = 24
    checks: int = 4
    shown_share: float = 0.85
    augmentation: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise UsageError(f"refinement of {self.steps} steps; give 0 or more")

    def __bool__(self) -> bool:
        return self.steps > 0
