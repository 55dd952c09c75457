"""FS-MedSAM2: labelled slices of a few parts along z, as the first frames of a pseudo-video.

Paper: "FS-MedSAM2: Exploring the Potential of SAM2 for Few-Shot Medical Image Segmentation without
Fine-tuning", arXiv:2409.04298. `docs/methods/fs-medsam2.md` says where this departs from the released code.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from unprompted.backbones.base import Backbone, Features, MemoryBank, MemoryEntry
from unprompted.errors import UsageError
from unprompted.methods.base import Place, Progress, Step, SupportFrames, confidence_score
from unprompted.methods.support_memory import conditioning


@dataclass(frozen=True)
class FsMedSam2:
    """Slices or volumes follow a support slice of each part as in one video; nothing is trained.

    Attributes:
        video: "slice" puts each query slice behind the support alone; "top" sweeps the volume from its
            first slice, "middle" from its middle outwards [all three: paper].
        parts: parts along z into which the labelled range of a class is cut; the middle slice of each is
            its support [code: 3].
        supports: which of these a query sees: "all" parts [code: "slice"], or that of the "middle" part
            alone [code: "top" and "middle"].
    """

    video: Literal["slice", "top", "middle"] = "slice"
    parts: int = 3
    supports: Literal["all", "middle"] = "all"

    paper: ClassVar[str] = (
        "FS-MedSAM2: Exploring the Potential of SAM2 for Few-Shot Medical Image Segmentation without "
        "Fine-tuning, arXiv:2409.04298"
    )
    needs_training: ClassVar[bool] = False
    inputs: ClassVar[tuple[str, ...]] = ("volumes", "slices", "images", "videos")

    def __post_init__(self) -> None:
        if self.parts < 1:
            raise UsageError(f"fs-medsam2: parts is {self.parts}; give at least 1")
        if self.video not in ("slice", "top", "middle"):
            raise UsageError(f"fs-medsam2: video is {self.video!r}; use slice, top or middle")
        if self.supports not in ("all", "middle"):
            raise UsageError(f"fs-medsam2: supports is {self.supports!r}; use all or middle")

    @property
    def looks_ahead(self) -> bool:
        """No: it starts in the middle or at the first frame."""
        return False

    def train(
        self, backbone: Backbone, support: SupportFrames, seed: int, progress: Progress
    ) -> dict[str, Tensor]:
        """Learn nothing."""
        return {}

    def prepare(
        self, backbone: Backbone, support: SupportFrames, learned: dict[str, Tensor]
    ) -> tuple[MemoryEntry, ...]:
        """The support slices of every class and case as conditioning entries."""
        return conditioning(backbone, support, self.support_slices(support))

    def support_slices(self, support: SupportFrames) -> list[list[int]]:
        """For each class the frames that support it, case by case."""
        per_class = []
        for shown in support.shows().T.tolist():
            own: dict[int, list[int]] = {}
            for frame in (n for n, s in enumerate(shown) if s):
                own.setdefault(support.cases[frame], []).append(frame)
            per_class.append([f for frames in own.values() for f in self._of_case(support, frames)])
        return per_class

    def start(self, fitted: tuple[MemoryEntry, ...], pooled: Tensor) -> int:
        """The middle frame or the first one."""
        return len(pooled) // 2 if self.video == "middle" else 0

    def begin(self, fitted: tuple[MemoryEntry, ...], pooled: Tensor, start: int) -> tuple[int, MemoryBank]:
        """The number of objects, and a bank that holds the support."""
        return fitted[0].pointer.shape[0], MemoryBank(fitted)

    def step(self, backbone: Backbone, state: int, features: Features, memory: MemoryBank, at: Place) -> Step:
        """Attend, decode; remember where slices follow each other."""
        if self.video == "slice":
            at = Place(0, 0, 1)  # a video of its own: the slice follows the support
        recall = memory.recall(at.position, at.start, at.direction)
        decoded = backbone.decode(backbone.attend(features, recall, state), features)
        entry = None if self.video == "slice" else backbone.remember(features, decoded)
        return Step(decoded, confidence_score(decoded), state, entry)

    def _of_case(self, support: SupportFrames, frames: list[int]) -> list[int]:
        """The support slices among those of one case that show a class."""
        ordered = sorted(frames, key=lambda frame: support.positions[frame])  # the parts lie along z
        middles = [int((part + 0.5) / self.parts * len(ordered)) for part in range(self.parts)]
        if self.supports == "middle":
            middles = [middles[len(middles) // 2]]
        return [ordered[middle] for middle in dict.fromkeys(middles)]
