"""Many classes in parts: what memory attention and the decoder hold then depends on a part, not on all."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from unprompted.backbones.base import Backbone, Decoded, Features, MemoryEntry, Prompt, Recall
from unprompted.engine.through import Through

Part = TypeVar("Part")


def in_parts(backbone: Backbone, objects: int | None) -> Backbone:
    """A backbone that takes at most so many objects at once; the one given where None."""
    return backbone if objects is None else InParts(backbone, objects)


@dataclass(frozen=True, eq=False)
class InParts(Through):
    """A backbone whose verbs go through objects part by part; what they give is that of all objects.

    Attributes:
        objects: most objects at once.
    """

    objects: int

    def attend(self, features: Features, recall: Recall, objects: int) -> Tensor:
        """Conditioned features of all objects, ``(K, C, g, g)``."""
        return torch.cat(
            [
                self.whole.attend(features, recall.of(part), part.stop - part.start)
                for part in self._parts(objects)
            ]
        )

    def decode(self, fused: Tensor, features: Features, prompt: Prompt | None = None) -> Decoded:
        """Masks of all objects."""
        return _joined(
            self.whole.decode(fused[part], features, prompt and _of_each(prompt, part))
            for part in self._parts(len(fused))
        )

    def adopt(self, features: Features, masks: Tensor) -> Decoded:
        """Given masks of all objects."""
        return _joined(self.whole.adopt(features, masks[part]) for part in self._parts(len(masks)))

    def remember(self, features: Features, decoded: Decoded) -> MemoryEntry:
        """The memory entry of all objects."""
        return MemoryEntry.across_objects(
            self.whole.remember(features, _of_each(decoded, part))
            for part in self._parts(len(decoded.quality))
        )

    def _parts(self, objects: int) -> Iterator[slice]:
        for start in range(0, objects, self.objects):
            yield slice(start, min(start + self.objects, objects))


def _of_each(record: Part, part: slice) -> Part:
    """A record of tensors whose first axis is objects, restricted to some of them."""
    return _changed(record, lambda tensors: tensors[0][part], [record])


def _joined(records: Iterator[Decoded]) -> Decoded:
    found = list(records)
    return _changed(found[0], torch.cat, found) if len(found) > 1 else found[0]


def _changed(first: Any, change: Callable[[list[Tensor]], Tensor], records: list[Any]) -> Any:
    names = [f.name for f in fields(first) if isinstance(getattr(first, f.name), Tensor)]
    return replace(first, **{name: change([getattr(r, name) for r in records]) for name in names})
