"""Backbones seen through others: whoever derives from these changes some verbs and leaves the rest."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from unprompted.backbones.base import Backbone, Decoded, Features, MemoryEntry, Prompt, Recall


@dataclass(frozen=True, eq=False)
class Through:
    """A backbone that does as another one.

    Attributes:
        whole: the other one.
    """

    whole: Backbone

    @property
    def name(self) -> str:
        """As the whole."""
        return self.whole.name

    @property
    def input_size(self) -> int:
        """As the whole."""
        return self.whole.input_size

    @property
    def channels(self) -> int:
        """As the whole."""
        return self.whole.channels

    @property
    def memory_width(self) -> int:
        """As the whole."""
        return self.whole.memory_width

    @property
    def memory_pool(self) -> int:
        """As the whole."""
        return self.whole.memory_pool

    @property
    def device(self) -> torch.device:
        """As the whole."""
        return self.whole.device

    @property
    def digest(self) -> str:
        """As the whole."""
        return self.whole.digest

    def encode(self, frames: Tensor) -> list[Features]:
        """As the whole."""
        return self.whole.encode(frames)

    def attend(self, features: Features, recall: Recall, objects: int) -> Tensor:
        """As the whole."""
        return self.whole.attend(features, recall, objects)

    def decode(self, fused: Tensor, features: Features, prompt: Prompt | None = None) -> Decoded:
        """As the whole."""
        return self.whole.decode(fused, features, prompt)

    def adopt(self, features: Features, masks: Tensor) -> Decoded:
        """As the whole."""
        return self.whole.adopt(features, masks)

    def remember(self, features: Features, decoded: Decoded) -> MemoryEntry:
        """As the whole."""
        return self.whole.remember(features, decoded)


@dataclass(frozen=True, eq=False)
class Following(Through):
    """A backbone before one frame of a sweep; what it does depends on the masks of the frames before."""

    def after(self, decoded: Decoded) -> Self:
        """The backbone before the next frame."""
        whole = self.whole
        return replace(self, whole=whole.after(decoded) if isinstance(whole, Following) else whole)
