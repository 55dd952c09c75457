"""Plain SAM2: support frames with their masks as conditioning frames, then mask propagation."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from unprompted.backbones.base import Backbone, Features, MemoryBank, MemoryEntry
from unprompted.errors import UsageError
from unprompted.methods.base import Place, Progress, Step, SupportFrames, confidence_score
from unprompted.methods.support_memory import conditioning, spread


@dataclass(frozen=True)
class Sam2Mask:
    """The baseline of every few-shot method on SAM2: nothing is learned, nothing is chosen.

    Attributes:
        supports: conditioning frames of each class, evenly spaced over the frames that show it. SAM2
            itself takes every given frame; the cost of memory attention grows with their number.
    """

    supports: int = 8

    paper: ClassVar[str] = "Ravi et al., SAM 2: Segment Anything in Images and Videos, arXiv:2408.00714"
    needs_training: ClassVar[bool] = False
    inputs: ClassVar[tuple[str, ...]] = ("volumes", "slices", "images", "videos")

    def __post_init__(self) -> None:
        if self.supports < 1:
            raise UsageError(f"sam2-mask: supports is {self.supports}; give at least 1")

    @property
    def looks_ahead(self) -> bool:
        """No: it starts at the first frame."""
        return False

    def train(
        self, backbone: Backbone, support: SupportFrames, seed: int, progress: Progress
    ) -> dict[str, Tensor]:
        """Learn nothing."""
        return {}

    def prepare(
        self, backbone: Backbone, support: SupportFrames, learned: dict[str, Tensor]
    ) -> tuple[MemoryEntry, ...]:
        """Conditioning entries, composed over the classes."""
        per_class = [spread(shown.nonzero()[:, 0].tolist(), self.supports) for shown in support.shows().T]
        return conditioning(backbone, support, per_class)

    def start(self, fitted: tuple[MemoryEntry, ...], pooled: Tensor) -> int:
        """The first frame: one forward sweep."""
        return 0

    def begin(self, fitted: tuple[MemoryEntry, ...], pooled: Tensor, start: int) -> tuple[int, MemoryBank]:
        """The number of objects, and a bank that holds the support."""
        return fitted[0].pointer.shape[0], MemoryBank(fitted)

    def step(self, backbone: Backbone, state: int, features: Features, memory: MemoryBank, at: Place) -> Step:
        """Attend, decode, remember."""
        recall = memory.recall(at.position, at.start, at.direction)
        decoded = backbone.decode(backbone.attend(features, recall, state), features)
        return Step(decoded, confidence_score(decoded), state, backbone.remember(features, decoded))
