"""The contract between methods and a promptable segmentation backbone: five verbs.

Letters in shapes: T frames, K objects (classes), S side of the square input in pixels, C channels of
the coarsest features, M width of a memory token, g = S/16 and HW = g*g.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

SUPPORT_POSITION = -1
TOKEN_FRAMES = 6  # predicted frames whose tokens are attended (SAM2: num_maskmem - 1)
POINTER_FRAMES = 15  # predicted frames whose pointers are attended (SAM2: 16 with the current one)


@dataclass(frozen=True, eq=False)
class Features:
    """What the encoder says about one frame.

    Attributes:
        levels: ``((1, C/8, S/4, S/4), (1, C/4, S/8, S/8), (1, C, g, g))``.
        position: position code of the coarsest level, ``(1, C, g, g)``.
        pixels: the frame itself, ``(1, 3, S, S)`` in 0..1, where the encoder keeps it.
    """

    levels: tuple[Tensor, Tensor, Tensor]
    position: Tensor
    pixels: Tensor | None = None

    @property
    def pooled(self) -> Tensor:
        """Average of the coarsest level, ``(C,)``: a descriptor of the whole frame."""
        return self.levels[2].mean(dim=(0, 2, 3))


@dataclass(frozen=True, eq=False)
class Prompt:
    """A prompt a method made itself.

    Attributes:
        boxes: ``(K, 4)`` as x0, y0, x1, y1 in input pixels, or None.
        mask_logits: ``(K, 1, S/4, S/4)``, or None.
        prior: probability of the mask to be heeded, ``(K, 1, h, w)`` in 0..1, or None. Backbones that were
            never trained to heed one ignore it.
    """

    boxes: Tensor | None = None
    mask_logits: Tensor | None = None
    prior: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Decoded:
    """Masks of one frame.

    Attributes:
        logits: ``(K, 1, S/4, S/4)``; strongly negative where presence is denied.
        raw: the same before presence had its say, for losses.
        logits_full: `logits` at ``(K, 1, S, S)``.
        quality: predicted IoU in 0..1, ``(K,)``.
        presence: object score, a logit, ``(K, 1)``; at 0 or below the object is absent.
        pointer: object pointer, ``(K, C)``.
        given: whether the masks were given (support) rather than predicted.
    """

    logits: Tensor
    raw: Tensor
    logits_full: Tensor
    quality: Tensor
    presence: Tensor
    pointer: Tensor
    given: bool = False

    def detached(self) -> "Decoded":
        """The same masks without gradient; the pointer keeps its own."""
        return replace(
            self,
            logits=self.logits.detach(),
            raw=self.raw.detach(),
            logits_full=self.logits_full.detach(),
            quality=self.quality.detach(),
            presence=self.presence.detach(),
        )


@dataclass(frozen=True, eq=False)
class MemoryEntry:
    """One frame with its masks, as memory attention reads it.

    Attributes:
        tokens: ``(HW, K, M)``.
        pointer: ``(K, C)``.
    """

    tokens: Tensor
    pointer: Tensor

    def of(self, objects: Tensor) -> "MemoryEntry":
        """The entry restricted to some objects, given as indices ``(k,)``."""
        return MemoryEntry(self.tokens[:, objects], self.pointer[objects])

    @staticmethod
    def across_objects(entries: Iterable["MemoryEntry"]) -> "MemoryEntry":
        """One entry out of several that hold different objects: objects are concatenated."""
        entries = tuple(entries)
        return MemoryEntry(
            torch.cat([e.tokens for e in entries], dim=1), torch.cat([e.pointer for e in entries])
        )


@dataclass(frozen=True, eq=False)
class Recall:
    """What one frame may attend to.

    Attributes:
        tokens: ``(slot, (HW, K, M))`` pairs, support first; slot 0 is support, slot n a frame n steps back.
        pointers: ``(steps back, (K, C))`` pairs.
        places: where each object is looked for, ``(K, HW)`` bool; None for everywhere. A backbone that gains
            nothing by it may look everywhere.
    """

    tokens: tuple[tuple[int, Tensor], ...] = ()
    pointers: tuple[tuple[int, Tensor], ...] = ()
    places: Tensor | None = None

    def of(self, objects: Tensor | slice) -> "Recall":
        """The same of some objects, given as indices ``(k,)``, as ``(K,)`` bool or as a slice."""
        return Recall(
            tuple((slot, tokens[:, objects]) for slot, tokens in self.tokens),
            tuple((back, pointer[objects]) for back, pointer in self.pointers),
            None if self.places is None else self.places[objects],
        )


@dataclass(frozen=True, eq=False)
class MemoryBank:
    """Support entries, which stay, and the most recent predictions of a sweep, which are replaced.

    All support shares one position, just before the first frame of the sweep, so that the order of
    support never matters. The size is bounded: frames further back than `POINTER_FRAMES` are dropped.
    """

    support: tuple[MemoryEntry, ...] = ()
    recent: dict[int, MemoryEntry] = field(default_factory=dict)

    def remembering(self, position: int, entry: MemoryEntry) -> "MemoryBank":
        """A bank that holds a predicted frame too; the furthest ones fall out."""
        recent = {p: e for p, e in self.recent.items() if abs(position - p) <= POINTER_FRAMES}
        return replace(self, recent=recent | {position: entry})

    def recall(self, position: int, start: int, direction: int) -> Recall:
        """What the frame at a position attends to.

        Args:
            position: index of the frame.
            start: index of the first frame of the sweep.
            direction: +1 when the sweep runs towards higher positions, -1 otherwise.
        """
        tokens = [(0, e.tokens) for e in self.support]
        since_start = abs(position - start) + 1
        pointers = [(since_start, e.pointer) for e in self.support]
        for back in range(POINTER_FRAMES, 0, -1):
            entry = self.recent.get(position - direction * back)
            if entry is None:
                continue
            pointers.append((back, entry.pointer))
            if back <= TOKEN_FRAMES:
                tokens.append((back, entry.tokens))
        return Recall(tuple(tokens), tuple(pointers))


class Backbone(Protocol):
    """Five verbs over a promptable video segmentation model."""

    @property
    def name(self) -> str:
        """The registry name or model id it was loaded by."""
        ...

    @property
    def input_size(self) -> int:
        """S, the side of the square input in pixels."""
        ...

    @property
    def channels(self) -> int:
        """C, channels of the coarsest features and of pointers."""
        ...

    @property
    def memory_width(self) -> int:
        """M, width of a memory token."""
        ...

    @property
    def memory_pool(self) -> int:
        """Side of the squares of places whose memory is averaged before it is attended to; 1 for none."""
        ...

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 over the parameters."""
        ...

    def encode(self, frames: Tensor) -> list[Features]:
        """Features of frames ``(T, 3, S, S)`` with values in 0..1, one record each."""
        ...

    def attend(self, features: Features, recall: Recall, objects: int) -> Tensor:
        """Condition one frame on memory, for K objects at once: ``(K, C, g, g)``."""
        ...

    def decode(self, fused: Tensor, features: Features, prompt: Prompt | None = None) -> Decoded:
        """Masks from conditioned features ``(K, C, g, g)``."""
        ...

    def adopt(self, features: Features, masks: Tensor) -> Decoded:
        """Given masks ``(K, S, S)`` in {0, 1}, as if they had been decoded."""
        ...

    def remember(self, features: Features, decoded: Decoded) -> MemoryEntry:
        """The memory entry of a frame and its masks."""
        ...
