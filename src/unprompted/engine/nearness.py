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
        places: where each object is looked for, ``(K, g, g)`` bool; None before the first frame.
    """

    places: Tensor | None = None

    def after(self, decoded: Decoded) -> Self:
        """The backbone before the next frame."""
        return replace(super().after(decoded), places=_around(decoded.logits))

    def attend(self, features: Features, recall: Recall, objects: int) -> Tensor:
        """Conditioned features ``(K, C, g, g)``; away from an object places ask memory together."""
        if self.places is not None:
            recall = replace(recall, places=self.places.flatten(1))
        return self.whole.attend(features, recall, objects)

    def decode(self, fused: Tensor, features: Features, prompt: Prompt | None = None) -> Decoded:
        """Masks that end where their object was looked for; those of some objects only are left alone."""
        decoded = self.whole.decode(fused, features, prompt)
        if self.places is None or len(self.places) != len(fused):
            return decoded
        return replace(
            decoded,
            logits=_within(decoded.logits, self.places),
            logits_full=_within(decoded.logits_full, self.places),
        )


def _around(logits: Tensor) -> Tensor:
    """Where objects with masks ``(K, 1, S/4, S/4)`` are looked for next; one without mask everywhere."""
    shown = F.max_pool2d((logits > 0).float(), 4)
    reach = max(1, shown.shape[-1] // AROUND)
    near = F.max_pool2d(shown, 2 * reach + 1, stride=1, padding=reach)[:, 0] > 0
    return near | ~near.flatten(1).any(dim=1)[:, None, None]


def _within(logits: Tensor, places: Tensor) -> Tensor:
    """Masks ``(K, 1, h, w)`` cut off beyond places ``(K, g, g)``."""
    inside = F.interpolate(places[:, None].float(), logits.shape[-2:], mode="nearest") > 0
    return torch.where(inside, logits, logits.clamp(max=_NOWHERE))
