"""Classes that are absent from a stretch of frames rest: they are looked at every few frames only."""

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from unprompted.backbones.base import Decoded, Features, Prompt, Recall
from unprompted.engine.through import Following

SURELY_ABSENT = -4.6  # presence logit: 1 % present
PATIENCE = 3  # looks in a row that found a class surely absent, before it rests
EVERY = 4  # frames between looks at a class that rests


@dataclass(frozen=True, eq=False)
class Resting(Following):
    """A backbone in a sweep: objects that rest are neither attended nor decoded.

    A resting object keeps what was last decoded of it, which is that it is absent.

    Attributes:
        last: masks of the frame before, None before the first.
        sure: looks in a row that found each object surely absent, ``(K,)``.
        frame: frames gone by.
    """

    last: Decoded | None = None
    sure: Tensor | None = None
    frame: int = 0

    def after(self, decoded: Decoded) -> "Resting":
        """The backbone before the next frame."""
        surely = decoded.presence[:, 0] < SURELY_ABSENT
        before = torch.zeros_like(surely, dtype=torch.long) if self.sure is None else self.sure
        counted = torch.where(surely, before + 1, 0)
        sure = torch.where(self._awake(len(before)), counted, before)
        return replace(super().after(decoded), last=decoded, sure=sure, frame=self.frame + 1)

    def _awake(self, objects: int) -> Tensor:
        """Which objects are looked at, ``(K,)`` bool; those that rest take turns."""
        if self.sure is None or self.last is None or len(self.sure) != objects:
            return torch.ones(objects, dtype=torch.bool, device=self.whole.device)
        numbers = torch.arange(objects, device=self.whole.device)
        return (self.sure < PATIENCE) | ((self.frame + numbers) % EVERY == 0)

    def attend(self, features: Features, recall: Recall, objects: int) -> Tensor:
        """Conditioned features ``(K, C, g, g)``; those of resting objects are the frame's own."""
        awake = self._awake(objects)
        if bool(awake.all()):
            return self.whole.attend(features, recall, objects)
        fused = features.levels[2].repeat(objects, 1, 1, 1)
        if bool(awake.any()):
            fused[awake] = self.whole.attend(features, recall.of(awake), int(awake.sum()))
        return fused

    def decode(self, fused: Tensor, features: Features, prompt: Prompt | None = None) -> Decoded:
        """Masks of all objects."""
        awake = self._awake(len(fused))
        if self.last is None or bool(awake.all()):
            return self.whole.decode(fused, features, prompt)
        if not bool(awake.any()):
            return self.last
        seen = self.whole.decode(fused[awake], features, prompt and _some(prompt, awake))
        changed = {}
        for name, value in _tensors(seen).items():
            changed[name] = getattr(self.last, name).clone()
            changed[name][awake] = value
        return replace(self.last, **changed)


def _some(prompt: Prompt, objects: Tensor) -> Prompt:
    return replace(prompt, **{name: value[objects] for name, value in _tensors(prompt).items()})


def _tensors(record: Any) -> dict[str, Tensor]:
    values = {f.name: getattr(record, f.name) for f in fields(record)}
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}
