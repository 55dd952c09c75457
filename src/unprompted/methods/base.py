"""The contract of a method: `train` and `prepare` on the support, `begin` a sequence, `step` a frame.

A method never owns the frame loop, files or geometry: the engine does. It is a frozen dataclass whose
fields are its settings; what it learns lives in the records below.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor

from unprompted.backbones.base import Backbone, Decoded, Features, MemoryBank

Progress = Callable[[str, int, int], None]  # what, done, of


@dataclass(frozen=True, eq=False)
class SupportFrames:
    """The support as the model sees it.

    Attributes:
        pixels: ``(N, 3, S, S)`` in 0..1.
        masks: ``(N, K, S, S)`` bool, classes by label value.
        cases: index of the case of each frame, ``(N,)``.
        positions: relative place of each frame in its case, 0..1, ``(N,)``.
    """

    pixels: Tensor
    masks: Tensor
    cases: tuple[int, ...]
    positions: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.cases)


@dataclass(frozen=True, eq=False)
class Step:
    """What a method says about one frame.

    Attributes:
        decoded: masks of all K objects.
        quality: ``(K,)`` in 0..1, the method's own estimate of each mask.
        keep: whether the frame enters the memory bank.
    """

    decoded: Decoded
    quality: Tensor
    keep: bool = True


class Method(Protocol):
    """A few-shot segmentation method on a promptable backbone."""

    paper: ClassVar[str]
    needs_training: ClassVar[bool]

    def train(
        self, backbone: Backbone, support: SupportFrames, seed: int, progress: Progress
    ) -> dict[str, Tensor]:
        """Learn from the support, offline; what is learned is saved with the task (may be empty)."""
        ...

    def prepare(self, backbone: Backbone, support: SupportFrames, learned: dict[str, Tensor]) -> Any:
        """Turn the support and what was learned into a read-only state shared by all cases."""
        ...

    def start(self, fitted: Any, pooled: Tensor) -> int:
        """Where a sweep begins, given the descriptors ``(T, C)`` of all frames of a case."""
        ...

    def begin(self, fitted: Any, pooled: Tensor, start: int) -> tuple[Any, MemoryBank]:
        """State and memory of one sequence: a private copy, so one case never alters the next."""
        ...

    def step(
        self, backbone: Backbone, state: Any, features: Features, memory: MemoryBank, at: "Place"
    ) -> Step:
        """Segment one frame."""
        ...


@dataclass(frozen=True)
class Place:
    """Where a sweep stands: frame index, index of its first frame, and its direction (+1 or -1)."""

    position: int
    start: int
    direction: int
