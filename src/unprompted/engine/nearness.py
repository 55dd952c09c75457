"""Classes are looked for around where the frame before showed them, not everywhere."""

from dataclasses import dataclass, replace
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from unprompted.backbones.base import Decoded, Features, Prompt, Recall
from unprompted.engine.through import Following

AROUND = 8  # a class is looked for as far as this fraction of the frame's side from where it was
_NOWHERE = -10.0  # logit of a mask where it is not looked for


@dataclass(frozen=True, eq=False)
class Near(Following):
    """A backbone in a sweep: an object that the last frame showed is looked for around there.

    Attributes:
        last: logits of the masks of the frame before, ``(K, 1, S/4, S/4)``; None before the first.
    """

    last: Tensor | None = None

    def after(self, decoded: Decoded) -> Self:
        """The backbone before the next frame."""
        return replace(super().after(decoded), last=decoded.logits)

    def attend(self, features: Features, recall: Recall, objects: int) -> Tensor:
        """Conditioned features ``(K, C, g, g)``; away from an object places ask memory together."""
        places = self._places(features.levels[2].shape[-1], objects)
        if places is not None:
            recall = replace(recall, places=places.flatten(1))
        return self.whole.attend(features, recall, objects)

    def decode(self, fused: Tensor, features: Features, prompt: Prompt | None = None) -> Decoded:
        """Masks of all objects; none reaches beyond where it was looked for."""
        decoded = self.whole.decode(fused, features, prompt)
        places = self._places(fused.shape[-1], len(fused))
        if places is None:
            return decoded
        return replace(
            decoded,
            logits=_within(decoded.logits, places),
            logits_full=_within(decoded.logits_full, places),
        )

    def _places(self, side: int, objects: int) -> Tensor | None:
        """Where each object is looked for, ``(K, g, g)`` bool: everywhere if the last frame showed none."""
        if self.last is None or len(self.last) != objects:
            return None
        shown = F.adaptive_max_pool2d((self.last > 0).float(), side)
        reach = max(1, side // AROUND)
        near = F.max_pool2d(shown, 2 * reach + 1, stride=1, padding=reach)[:, 0] > 0
        return near | ~near.flatten(1).any(dim=1)[:, None, None]


def _within(logits: Tensor, places: Tensor) -> Tensor:
    """Masks ``(K, 1, h, w)`` cut off beyond places ``(K, g, g)``."""
    inside = F.interpolate(places[:, None].float(), logits.shape[-2:], mode="nearest") > 0
    return torch.where(inside, logits, logits.clamp(max=_NOWHERE))
