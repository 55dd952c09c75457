"""What refinement may cost, and how it is done."""

from dataclasses import dataclass, field

from unprompted.errors import UsageError
from unprompted.training.augment import VARIED, Augmentation

DEFAULT_STEPS = 600


@dataclass(frozen=True)
class Refinement:
    """How masks are refined by what the support teaches.

    Attributes:
        steps: optimiser steps on all cases, besides those for each class; half as many as both together
            come before them with a case left out. 0 refines nothing.
        steps_per_class: further steps for every class.
        learning_rate: peak, of AdamW.
        batch: crops a step.
        crop: largest side of a crop in pixels.
        width: channels at the finest level.
        examples: support frames it learns from, at most.
        unaided: share of crops that show no masks, so that pixels alone must do.
        alone: share of crops whose neighbouring slices are copies of the slice itself.
        judged: frames of the case left out that are looked at.
        checks: times they are looked at.
        shown_share: share of crops that show a class, each class as often as the others.
        augmentation: change of every crop.
    """

    steps: int = field(default_factory=lambda: DEFAULT_STEPS)
    steps_per_class: int = 120
    learning_rate: float = 2e-3
    batch: int = 4
    crop: int = 128
    width: int = 32
    examples: int = 288
    unaided: float = 0.5
    alone: float = 0.2
    judged: int = 24
    checks: int = 3
    shown_share: float = 0.8
    augmentation: Augmentation = VARIED

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise UsageError(f"refinement of {self.steps} steps; give 0 or more")

    def __bool__(self) -> bool:
        return self.steps > 0

    def steps_for(self, objects: int) -> int:
        """Steps on all cases, for so many classes."""
        return self.steps + self.steps_per_class * objects
