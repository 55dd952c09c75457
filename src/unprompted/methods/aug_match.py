"""Augmentative prompting and dynamic matching: the most similar augmented support prompts each slice.

Paper: "Rethinking Few-Shot Medical Image Segmentation by SAM2: A Training-Free Framework with Augmentative
Prompting and Dynamic Matching", arXiv:2503.04826 (no public code). `docs/methods/aug-match.md` says what is
the paper's and what is ours.
"""

import zlib
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from unprompted.backbones.base import Backbone, Features, MemoryBank
from unprompted.errors import UsageError
from unprompted.methods.base import Place, Progress, Step, SupportFrames, confidence_score
from unprompted.methods.similarity import Measure, Similarity, matched, similarity
from unprompted.methods.support_memory import SupportMemory, cosine, spread_per_class
from unprompted.training.augment import Augmentation

AFFINE_AND_JITTER = Augmentation(
    rotation=15, scale=0.15, shear=5, shift=0.08, warp=0, brightness=0.2, contrast=0.2, gamma=0, noise=0
)


@dataclass(frozen=True)
class AugMatch:
    """Every slice is prompted by the most similar of many augmented supports; nothing is trained.

    Attributes:
        augmented: augmented copies in all, in equal numbers of every slice of the pool; a pool of more
            slices than this gets none [paper: 2 or 4 times the number of query slices].
        similarity: what "most similar" means: perceptual over encoder levels, l1 over them, cosine of
            pooled features, ssim, psnr, or lpips with that package [paper: lpips, above ssim and psnr].
        top: matched supports that prompt a slice [paper: 1].
        video: "slice" makes a video of its matches and the one slice [paper]; "volume" sweeps the volume,
            and slices remember what was found before them too [ours].
        pool: most labelled slices a class to match with, evenly spaced; 1 takes the one where the class
            is largest [paper: one labelled slice].
        grid: side to which features are averaged before perceptual and l1 compare them, 0 for whole.
        augmentation: ranges of the copies: 15 degrees, 15 % of size, 5 degrees of shear, 8 % of shift, 20 %
            of brightness and contrast [paper: affine and colour jitter, ranges unknown].
    """

    augmented: int = 64
    similarity: Measure = "perceptual"
    top: int = 1
    video: Literal["slice", "volume"] = "slice"
    pool: int = 64
    grid: int = 32
    augmentation: Augmentation = AFFINE_AND_JITTER

    paper: ClassVar[str] = (
        "Rethinking Few-Shot Medical Image Segmentation by SAM2: A Training-Free Framework with "
        "Augmentative Prompting and Dynamic Matching, arXiv:2503.04826"
    )
    needs_training: ClassVar[bool] = False
    inputs: ClassVar[tuple[str, ...]] = ("volumes", "slices", "images", "videos")

    def __post_init__(self) -> None:
        if self.augmented < 0:
            raise UsageError(f"aug-match: augmented is {self.augmented}; give 0 or more copies")
        if min(self.top, self.pool) < 1:
            raise UsageError(f"aug-match: top is {self.top} and pool {self.pool}; give at least 1 of each")
        if self.video not in ("slice", "volume"):
            raise UsageError(f"aug-match: video is {self.video!r}; use slice or volume")
        self._measure()

    @property
    def looks_ahead(self) -> bool:
        """Only a volume starts where it is most like a candidate."""
        return self.video == "volume"

    def train(
        self, backbone: Backbone, support: SupportFrames, seed: int, progress: Progress
    ) -> dict[str, Tensor]:
        """Learn nothing; the seed of the copies is kept with the task."""
        return {"seed": torch.tensor(seed)}

    def prepare(
        self, backbone: Backbone, support: SupportFrames, learned: dict[str, Tensor]
    ) -> SupportMemory:
        """Every candidate encoded and remembered, once for all cases."""
        candidates = self.candidates(support, int(learned["seed"]) if learned else 0)
        frames = list(range(len(candidates)))
        return SupportMemory.build(backbone, candidates, frames, describe=self._measure().describe)

    def start(self, fitted: SupportMemory, pooled: Tensor) -> int:
        """The frame most like any candidate; the first one where slices stand alone."""
        if self.video == "slice":
            return 0
        return int(cosine(pooled, fitted.pooled).max(dim=1).values.argmax())

    def begin(self, fitted: SupportMemory, pooled: Tensor, start: int) -> tuple[SupportMemory, MemoryBank]:
        """The candidates, and an empty bank: support is chosen anew for every slice."""
        return fitted, MemoryBank()

    def step(
        self, backbone: Backbone, state: SupportMemory, features: Features, memory: MemoryBank, at: Place
    ) -> Step:
        """Match, attend to the matches, decode."""
        support, chosen = matched(state, self._measure(), features, self.top)
        memory = replace(memory, support=support)
        if self.video == "slice":
            at = Place(0, 0, 1)  # a video of its own: the slice follows its matches
        recall = memory.recall(at.position, at.start, at.direction)
        decoded = backbone.decode(backbone.attend(features, recall, state.shows.shape[1]), features)
        entry = backbone.remember(features, decoded) if self.video == "volume" else None
        return Step(decoded, confidence_score(decoded), state, entry, chosen)

    def candidates(self, support: SupportFrames, seed: int) -> SupportFrames:
        """The pool and its augmented copies: S' of the paper.

        A copy depends on the seed, its number and its slice's place in the case, not on the order of cases.
        """
        pool = self._pool(support)
        drawn = [(frame, copy) for copy in range(self.augmented // len(pool) + 1) for frame in pool]
        pixels, labels = [], []
        for frame, copy in drawn:
            own = support.pixels[[frame]], support.labels[[frame]]
            if copy:
                number = zlib.crc32(f"{seed} {support.positions[frame]} {copy}".encode())
                own = self.augmentation.draw(*own, number)
            pixels.append(own[0])
            labels.append(own[1])
        return SupportFrames(
            torch.cat(pixels),
            torch.cat(labels),
            support.objects,
            tuple(support.cases[frame] for frame, _ in drawn),
            tuple(support.positions[frame] for frame, _ in drawn),
            tuple(copy for _, copy in drawn),
        )

    def _pool(self, support: SupportFrames) -> list[int]:
        if self.pool > 1:
            return spread_per_class(support.shows(), self.pool)
        areas = torch.stack([support.masks(n).flatten(1).sum(dim=1) for n in range(len(support))])
        return sorted(set(areas.argmax(dim=0).tolist()))

    def _measure(self) -> Similarity:
        return similarity(self.similarity, self.grid)
