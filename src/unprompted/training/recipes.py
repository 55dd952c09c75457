"""Pretraining recipes: values, not subclasses."""

from dataclasses import dataclass, field

from unprompted.backbones.tiny import TinyShape
from unprompted.training.synth import SynthSettings


@dataclass(frozen=True)
class Stage:
    """One stretch of pretraining at one input size.

    Attributes:
        size: side of the input in pixels, a multiple of 32.
        steps: optimiser steps.
        batch: episodes a step.
    """

    size: int
    steps: int
    batch: int


@dataclass(frozen=True)
class PretrainRecipe:
    """Everything that decides the result of a pretraining run, the hardware aside.

    Attributes:
        shape: the model; its input size is that of the last stage.
        stages: sizes and steps, in order; the learning rate falls towards the end of the last one.
        synth: the generator's settings; size, supports, classes and smallest are set step by step, and
            the spread between subjects is drawn evenly from none to `synth.strength`.
        smallest: span of the least area of a class, as a share of the picture; drawn logarithmically.
        supports: fewest and most support frames of an episode.
        queries: query frames of an episode.
        classes: fewest and most classes of an episode.
        learning_rate: peak, reached after `warmup` steps.
        weight_decay: of AdamW, on matrices only.
        gradient_clip: largest norm of the gradient.
        ema: decay of the averaged weights, which are what is exported.
        single_mask_share: share of decodings that train the single-mask token.
        box_share: share of episodes whose query frames are prompted by a box too.
        seed: of weights and episodes.
    """

    shape: TinyShape
    stages: tuple[Stage, ...]
    synth: SynthSettings = field(default_factory=SynthSettings)
    smallest: tuple[float, float] = (0.002, 0.02)
    supports: tuple[int, int] = (1, 4)
    queries: int = 5
    classes: tuple[int, int] = (1, 3)
    learning_rate: float = 5e-4
    warmup: int = 100
    weight_decay: float = 0.05
    gradient_clip: float = 1.0
    ema: float = 0.998
    single_mask_share: float = 0.15
    box_share: float = 0.1
    seed: int = 0

    @property
    def steps(self) -> int:
        """Optimiser steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def stage_at(self, step: int) -> Stage:
        """The stage a step belongs to; past the end, the last one."""
        for stage in self.stages:
            if step < stage.steps:
                return stage
            step -= stage.steps
        return self.stages[-1]


RECIPES = {
    "builtin": PretrainRecipe(TinyShape(), (Stage(128, 40_000, 16), Stage(256, 40_000, 16))),
    "builtin-cpu": PretrainRecipe(
        TinyShape(),
        (Stage(128, 1_250, 3), Stage(256, 100, 3)),
        smallest=(0.02, 0.02),  # at 128 px smaller classes are a pixel or two of the loss
        queries=3,
    ),
    "builtin-cpu-2": PretrainRecipe(  # goes on from the weights of builtin-cpu, with smaller classes
        TinyShape(),
        (Stage(128, 1_000, 3), Stage(256, 350, 3)),
        smallest=(0.004, 0.02),
        queries=3,
        seed=1,
    ),
    "builtin-cpu-3": PretrainRecipe(  # goes on from the weights of builtin-cpu-2, mostly at larger sizes
        TinyShape(),
        (Stage(192, 800, 3), Stage(256, 450, 3)),
        smallest=(0.002, 0.02),
        queries=3,
        learning_rate=3e-4,
        warmup=50,
        seed=2,
    ),
    "test": PretrainRecipe(
        TinyShape(64, widths=(16, 32, 48, 64), blocks=(1, 1, 1, 1), channels=64, memory_layers=1),
        (Stage(64, 12, 2),),
        supports=(1, 1),
        queries=2,
        classes=(1, 1),
        learning_rate=2e-3,
        warmup=2,
        ema=0.5,
    ),
}
