"""The contract of a method: `train` and `prepare` on the support, `begin` a sequence, `step` a frame.

A method never owns the frame loop, files or geometry: the engine does. It is a frozen dataclass whose
fields are its settings; what it learns lives in the records it gives back.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from unprompted.backbones.adapted import Adapted
from unprompted.backbones.base import Backbone, Decoded, Features, MemoryBank, MemoryEntry
from unprompted.prediction import Chosen
from unprompted.training.checkpoint import Checkpoint

Progress = Callable[[str, int, int], None]  # what is being done, steps done, steps in all


@dataclass(frozen=True, eq=False)
class SupportFrames:
    """The support as the model sees it.

    Attributes:
        pixels: ``(N, 3, S, S)`` in 0..1.
        labels: ``(N, S, S)`` uint8 or int16, object number 1..K, 0 is background.
        objects: K, the number of classes.
        cases: index of the case of each frame, length N.
        positions: slice index of each frame in its case, length N.
        copies: number of the augmented copy each frame is, 0 for the slice itself; empty where none is.
        patients: index of the patient of each frame, empty where every case is a patient of its own.
    """

    pixels: Tensor
    labels: Tensor
    objects: int
    cases: tuple[int, ...]
    positions: tuple[int, ...]
    copies: tuple[int, ...] = ()
    patients: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.cases)

    def masks(self, frame: int) -> Tensor:
        """Masks of one frame, ``(K, S, S)`` bool."""
        numbers = torch.arange(1, self.objects + 1, device=self.labels.device)
        return self.labels[frame] == numbers[:, None, None]

    def resized(self, size: int) -> "SupportFrames":
        """The same frames at another input size, labels by nearest neighbour."""
        pixels = F.interpolate(self.pixels, (size, size), mode="bilinear", antialias=True)
        labels = F.interpolate(self.labels[:, None].float(), (size, size), mode="nearest-exact")
        return replace(self, pixels=pixels, labels=labels[:, 0].to(self.labels.dtype))

    def only(self, frames: Sequence[int]) -> "SupportFrames":
        """Some of the frames, in the given order; the objects stay the same."""
        index = list(frames)
        return SupportFrames(
            self.pixels[index],
            self.labels[index],
            self.objects,
            tuple(self.cases[n] for n in index),
            tuple(self.positions[n] for n in index),
            tuple(self.copies[n] for n in index) if self.copies else (),
            tuple(self.patients[n] for n in index) if self.patients else (),
        )

    @property
    def groups(self) -> tuple[int, ...]:
        """What a split never parts, as an index of each frame: patients, or the cases of a single one."""
        return self.patients if len(set(self.patients)) > 1 else self.cases

    def shows(self) -> Tensor:
        """Whether a frame shows an object, ``(N, K)`` bool."""
        return torch.stack([self.masks(n).flatten(1).any(dim=1) for n in range(len(self))])


@dataclass(frozen=True)
class Place:
    """Where a sweep stands: frame index, index of its first frame, and its direction (+1 or -1)."""

    position: int
    start: int
    direction: int


@dataclass(frozen=True, eq=False)
class Step:
    """What a method says about one frame.

    Attributes:
        decoded: masks of all K objects.
        quality: ``(K,)`` in 0..1, the method's own estimate of each mask.
        state: the method's state after this frame.
        entry: what the memory bank should remember of this frame; None keeps the bank as it is.
        chosen: the support this frame was given, object by object, best first; for people to look at.
    """

    decoded: Decoded
    quality: Tensor
    state: Any
    entry: MemoryEntry | None
    chosen: tuple[Chosen, ...] = ()


class Method(Protocol):
    """A few-shot segmentation method on a promptable backbone."""

    paper: ClassVar[str]
    needs_training: ClassVar[bool]
    inputs: ClassVar[tuple[str, ...]]  # forms of support and queries, in words

    @property
    def looks_ahead(self) -> bool:
        """Whether `start` or `begin` read descriptors, for which every frame is encoded once more."""
        ...

    def train(
        self, backbone: Backbone, support: SupportFrames, seed: int, progress: Progress
    ) -> dict[str, Tensor]:
        """Learn from the support, offline; what is learned is saved with the task (may be empty)."""
        ...

    def prepare(self, backbone: Backbone, support: SupportFrames, learned: dict[str, Tensor]) -> Any:
        """Turn the support and what was learned into a read-only record shared by all cases."""
        ...

    def start(self, fitted: Any, pooled: Tensor) -> int:
        """Where a sweep begins, given the descriptors ``(T, C)`` of all frames; C is 0 if not asked for."""
        ...

    def begin(self, fitted: Any, pooled: Tensor, start: int) -> tuple[Any, MemoryBank]:
        """State and memory at the start of one sequence; one case never alters the next."""
        ...

    def step(self, backbone: Backbone, state: Any, features: Features, memory: MemoryBank, at: Place) -> Step:
        """Segment one frame; gives back a new state rather than changing the one it got."""
        ...


@runtime_checkable
class TrainsBackbone(Protocol):
    """A method that trains the backbone itself, before anything else, where `training` is on."""

    @property
    def training(self) -> bool:
        """Whether to train; without, the backbone is used as it is given."""
        ...

    def adapt(
        self,
        backbone: Backbone,
        support: SupportFrames,
        seed: int,
        progress: Progress,
        checkpoint: Checkpoint,
    ) -> Adapted:
        """A trained copy of the backbone."""
        ...


@runtime_checkable
class Teachable(Protocol):
    """A method whose memory of the support takes more labelled frames; those it has stay as they are."""

    def teach(self, backbone: Backbone, fitted: Any, support: SupportFrames, kept: Mapping[int, int]) -> Any:
        """The record of `prepare` with more of the support in it.

        Args:
            backbone: encodes.
            fitted: the record so far.
            support: all frames; the new ones are labelled in full, so what they do not show is absent.
            kept: number of a frame so far to its number in `support`; frames left out were replaced.
        """
        ...


def confidence_score(decoded: Decoded) -> Tensor:
    """Predicted IoU times presence probability, ``(K,)`` in 0..1."""
    return decoded.quality.float().clamp(0, 1) * decoded.presence[:, 0].float().sigmoid()
