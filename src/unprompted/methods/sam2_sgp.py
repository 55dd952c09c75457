"""SAM2-SGP: support-set guided prompting: a pseudo-mask from memory, and a second decoding it guides.

Paper: "SAM2-SGP: Enhancing SAM2 for Medical Image Segmentation via Support-Set Guided Prompting",
arXiv:2506.19658. `docs/methods/sam2-sgp.md` says where this departs from the released code.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from torch import Tensor

from unprompted.adaptation.adapt import adapt
from unprompted.adaptation.settings import Adaptation
from unprompted.backbones.adapted import Adapted
from unprompted.backbones.base import Backbone, Features, MemoryBank
from unprompted.errors import UsageError
from unprompted.methods.base import Place, Progress, Step, SupportFrames, confidence_score
from unprompted.methods.sgp_guidance import Box, Guidance, PseudoMaskObjective
from unprompted.methods.similarity import Measure, Similarity, matched, similarity
from unprompted.methods.support_memory import SupportMemory, known, retrievable
from unprompted.training.augment import STRONG, Augmentation
from unprompted.training.checkpoint import NO_CHECKPOINT, Checkpoint

_GRID = 16  # side to which encoder levels are averaged before frames are compared
_MOST_SUPPORTS = 16


@dataclass(frozen=True)
class Sam2Sgp:
    """Settings of SAM2-SGP; the source of each default is in brackets.

    Attributes:
        supports: S, support frames a class in memory, 1 to 16 [code: 4].
        similarity: what "most similar" means [code: cosine of whole maps].
        candidates: "all" retrieves any support frame, and remembers a class it does not show as absent
            [ours]; "shown" retrieves, for each class, among those that show it.
        pool: most support frames held for retrieval a class [ours].
        volumetric: whether frames attend to up to six predictions before them [paper: yes].
        box: what of the pseudo-mask is boxed: its largest component [ours], all of it [code], none.
        margin: added to the box on every side, relative to its size [ours].
        pma: pseudo-mask attention in the second decoding; without it and with a box, "box only" [paper: on].
        training: off uses the backbone as it is given.
        rank: of LoRA on query and value of the encoder [paper: 16]; 0 for none.
        heads: whether everything behind the encoder's trunk is trained too [code: yes].
        epochs: of training; checks on the cases left out pick one [code: 100, of far more cases].
        steps_per_epoch: optimiser steps of one.
        seconds: training ends after so many even if epochs are left [ours].
        learning_rate: peak, of AdamW [README: 1e-3 in 2D].
        temperature: of drawing support in training, in standard deviations of similarity [ours].
        half_share: share of steps at half the input size, which cost a quarter [ours].
        precision: "no" or "bf16", mixed precision of training [code: bf16].
        augmentation: change of query and support frames in training [code: none].
    """

    supports: int = 4
    similarity: Measure = "l1"
    candidates: Literal["all", "shown"] = "all"
    pool: int = 64
    volumetric: bool = True
    box: Box = "largest"
    margin: float = 0.05
    pma: bool = True
    training: bool = True
    rank: int = 16
    heads: bool = True
    epochs: int = 12
    steps_per_epoch: int = 20
    seconds: float = 480.0
    learning_rate: float = 1e-3
    temperature: float = 0.5
    half_share: float = 0.7
    precision: Literal["no", "bf16"] = "no"
    augmentation: Augmentation = STRONG

    paper: ClassVar[str] = (
        "SAM2-SGP: Enhancing SAM2 for Medical Image Segmentation via Support-Set Guided Prompting, "
        "arXiv:2506.19658"
    )
    needs_training: ClassVar[bool] = True
    inputs: ClassVar[tuple[str, ...]] = ("volumes", "slices", "images", "videos")

    def __post_init__(self) -> None:
        if not 1 <= self.supports <= _MOST_SUPPORTS:
            raise UsageError(f"sam2-sgp: supports is {self.supports}; give 1 to {_MOST_SUPPORTS}")
        if self.pool < 1 or self.rank < 0 or self.margin < 0 or self.temperature <= 0:
            raise UsageError(
                f"sam2-sgp: pool is {self.pool}, rank {self.rank}, margin {self.margin:g}, temperature "
                f"{self.temperature:g}; give a pool of 1 or more, a temperature above 0, the others from 0 on"
            )
        if self.training and (min(self.epochs, self.steps_per_epoch) < 1 or self.seconds <= 0):
            raise UsageError(
                f"sam2-sgp: {self.epochs} epochs of {self.steps_per_epoch} steps in {self.seconds:g} s train "
                "nothing; give more, or training=false"
            )
        if self.training and not (self.rank or self.heads or self.pma):
            raise UsageError("sam2-sgp: rank 0, heads and pma off leave nothing to train; use training=false")
        if self.candidates not in ("all", "shown"):
            raise UsageError(f"sam2-sgp: candidates is {self.candidates!r}; use all or shown")
        similarity(self.similarity, _GRID)

    def adapt(
        self,
        backbone: Backbone,
        support: SupportFrames,
        seed: int,
        progress: Progress,
        checkpoint: Checkpoint = NO_CHECKPOINT,
    ) -> Adapted:
        """Train adapters, heads and pseudo-mask attention on episodes of the support."""
        objective = PseudoMaskObjective(
            self.guidance, self.measure, self.rank, self.heads, self.temperature, self.steps_per_epoch
        )
        settings = Adaptation(
            seconds=self.seconds,
            steps=self.epochs * self.steps_per_epoch,
            learning_rate=self.learning_rate,
            retrieved=self.supports,
            checks=max(1, self.epochs // 2),
            patience=max(2, self.epochs // 3),
            half_share=self.half_share,
            precision=self.precision,
            augmentation=self.augmentation,
        )
        return adapt(backbone, support, settings, seed, progress, objective=objective, checkpoint=checkpoint)

    @property
    def looks_ahead(self) -> bool:
        """No: it starts at the first frame."""
        return False

    def train(
        self, backbone: Backbone, support: SupportFrames, seed: int, progress: Progress
    ) -> dict[str, Tensor]:
        """Learn nothing beside the backbone."""
        return {}

    def prepare(
        self, backbone: Backbone, support: SupportFrames, learned: dict[str, Tensor]
    ) -> SupportMemory:
        """Every support frame that may be retrieved, encoded and remembered."""
        everything = self.candidates == "all"
        frames = retrievable(support, self.pool, empty=everything)
        held = known(support) if everything else support.shows()
        return SupportMemory.build(backbone, support, frames, held, self.measure.describe)

    def start(self, fitted: SupportMemory, pooled: Tensor) -> int:
        """The first frame: slices in order."""
        return 0

    def begin(self, fitted: SupportMemory, pooled: Tensor, start: int) -> tuple[SupportMemory, MemoryBank]:
        """The support, and an empty bank: support is retrieved anew for every frame."""
        return fitted, MemoryBank()

    def step(
        self, backbone: Backbone, state: SupportMemory, features: Features, memory: MemoryBank, at: Place
    ) -> Step:
        """Retrieve, attend to supports and predictions, decode a pseudo-mask, decode again under it."""
        support, chosen = matched(state, self.measure, features, self.supports)
        recall = replace(memory, support=support).recall(at.position, at.start, at.direction)
        fused = backbone.attend(features, recall, state.shows.shape[1])
        decoded = self.guidance.decode(backbone, features, fused)
        entry = backbone.remember(features, decoded) if self.volumetric else None
        return Step(decoded, confidence_score(decoded), state, entry, chosen)

    @property
    def guidance(self) -> Guidance:
        """What the second decoding is told of the first."""
        return Guidance(self.box, self.margin, self.pma)

    @property
    def measure(self) -> Similarity:
        """How alike two frames are."""
        return similarity(self.similarity, _GRID)
