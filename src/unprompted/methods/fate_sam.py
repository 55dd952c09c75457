"""FATE-SAM: the nearest support slices of each query slice beside the volume's own memory.

Paper: "Few-Shot Adaptation of Training-Free Foundation Model for 3D Medical Image Segmentation",
arXiv:2501.09138. `docs/methods/fate-sam.md` says where this departs from the released code.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from torch import Tensor

from unprompted.backbones.base import Backbone, Features, MemoryBank
from unprompted.errors import UsageError
from unprompted.methods.base import Place, Progress, Step, SupportFrames, confidence_score
from unprompted.methods.similarity import Measure, Similarity, matched, similarity
from unprompted.methods.support_memory import SupportMemory, known, retrievable


@dataclass(frozen=True)
class FateSam:
    """Each slice attends to its nearest support slices and to the slices before it; nothing is trained.

    Attributes:
        retrieved: support slices retrieved for each query slice, the anatomical memory [paper: 3].
        similarity: what "nearest" means: l1 over encoder levels [code], cosine of pooled features [text],
            perceptual over encoder levels, ssim, psnr, or lpips with that package.
        candidates: which slices may be retrieved: "all", where a class is absent from a slice that
            does not show it, so that query slices may stay empty [ours]; "labelled", those with any label
            [code]; "shown", for each class those that show it.
        volumetric: whether slices attend to their predecessors too [paper: yes].
        pool: most slices held for retrieval a class, evenly spaced, and as many without any label.
        grid: side to which features are averaged before perceptual and l1 compare them, 0 for whole [code].
    """

    retrieved: int = 3
    similarity: Measure = "l1"
    candidates: Literal["all", "labelled", "shown"] = "all"
    volumetric: bool = True
    pool: int = 64
    grid: int = 32

    paper: ClassVar[str] = (
        "Few-Shot Adaptation of Training-Free Foundation Model for 3D Medical Image Segmentation, "
        "arXiv:2501.09138"
    )
    needs_training: ClassVar[bool] = False
    inputs: ClassVar[tuple[str, ...]] = ("volumes", "slices", "images", "videos")

    def __post_init__(self) -> None:
        if min(self.retrieved, self.pool) < 1:
            raise UsageError(
                f"fate-sam: retrieved is {self.retrieved} and pool {self.pool}; give at least 1 of each"
            )
        if self.candidates not in ("all", "labelled", "shown"):
            raise UsageError(f"fate-sam: candidates is {self.candidates!r}; use all, labelled or shown")
        self._measure()

    @property
    def looks_ahead(self) -> bool:
        """No: it starts in the middle."""
        return False

    def train(
        self, backbone: Backbone, support: SupportFrames, seed: int, progress: Progress
    ) -> dict[str, Tensor]:
        """Learn nothing."""
        return {}

    def prepare(
        self, backbone: Backbone, support: SupportFrames, learned: dict[str, Tensor]
    ) -> SupportMemory:
        """Every slice that may be retrieved, encoded and remembered."""
        frames = retrievable(support, self.pool, empty=self.candidates == "all")
        held = support.shows() if self.candidates == "shown" else known(support)
        return SupportMemory.build(backbone, support, frames, held, self._measure().describe)

    def teach(
        self, backbone: Backbone, fitted: SupportMemory, support: SupportFrames, kept: Mapping[int, int]
    ) -> SupportMemory:
        """Encode and remember the new slices."""
        absent = self.candidates != "shown"
        return fitted.extended(backbone, support, kept, absent, self._measure().describe)

    def start(self, fitted: SupportMemory, pooled: Tensor) -> int:
        """The middle slice."""
        return len(pooled) // 2

    def begin(self, fitted: SupportMemory, pooled: Tensor, start: int) -> tuple[SupportMemory, MemoryBank]:
        """The support, and an empty bank: support is retrieved anew for every slice."""
        return fitted, MemoryBank()

    def step(
        self, backbone: Backbone, state: SupportMemory, features: Features, memory: MemoryBank, at: Place
    ) -> Step:
        """Retrieve, attend to anatomical and volumetric memory side by side, decode, remember."""
        support, chosen = matched(state, self._measure(), features, self.retrieved)
        recall = replace(memory, support=support).recall(at.position, at.start, at.direction)
        decoded = backbone.decode(backbone.attend(features, recall, state.shows.shape[1]), features)
        entry = backbone.remember(features, decoded) if self.volumetric else None
        return Step(decoded, confidence_score(decoded), state, entry, chosen)

    def _measure(self) -> Similarity:
        return similarity(self.similarity, self.grid)
