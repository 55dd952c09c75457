"""Support frames as memory, encoded once, and which of them a query should attend to.

A building block shared by methods; it is not a method itself.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unprompted.backbones.base import Backbone, Features, MemoryEntry
from unprompted.methods.base import SupportFrames
from unprompted.prediction import Chosen

_CHUNK = 8


@dataclass(frozen=True, eq=False)
class SupportMemory:
    """Memory of every (support frame, object) pair that is held: those that are shown, if not told.

    Attributes:
        entries: ``(frame, object)`` to an entry of that one object.
        coarse: frame to its coarsest features, ``(1, C, g, g)``.
        pooled: descriptors of the frames held, ``(n, C)``.
        frames: which frames are held, ascending, length n.
        shows: the pairs held, ``(n, K)`` bool.
        described: what retrieval compares, ``(n, D)``.
        origins: case, slice and augmented copy of each frame held, length n.
    """

    entries: dict[tuple[int, int], MemoryEntry]
    coarse: dict[int, Tensor]
    pooled: Tensor
    frames: tuple[int, ...]
    shows: Tensor
    described: Tensor
    origins: tuple[tuple[int, int, int], ...]

    @classmethod
    @torch.no_grad()
    def build(
        cls,
        backbone: Backbone,
        support: SupportFrames,
        frames: list[int],
        held: Tensor | None = None,
        describe: Callable[[Features], Tensor] = lambda features: features.pooled,
    ) -> "SupportMemory":
        """Encode the given frames of the support and remember the objects they hold.

        Args:
            backbone: encodes.
            support: the support.
            frames: which frames of it, ascending.
            held: which objects to remember of each frame of the support, ``(N, K)`` bool; None takes
                those it shows. An object that is held but not shown is remembered as absent.
            describe: the descriptor ``(D,)`` that retrieval compares.
        """
        entries: dict[tuple[int, int], MemoryEntry] = {}
        coarse, pooled, described = {}, [], []
        held = support.shows() if held is None else held
        for frame, features in _encoded(backbone, support, frames):
            coarse[frame] = features.levels[2]
            pooled.append(features.pooled)
            described.append(describe(features))
            objects = [int(k) for k in held[frame].nonzero()[:, 0]]
            if objects:
                of_each = remembered(backbone, features, support.masks(frame), objects)
                entries |= {(frame, k): entry for k, entry in of_each.items()}
        copies = support.copies or (0,) * len(support)
        origins = tuple((support.cases[f], support.positions[f], copies[f]) for f in frames)
        return cls(
            entries,
            coarse,
            torch.stack(pooled),
            tuple(frames),
            held[frames],
            torch.stack(described),
            origins,
        )

    def extended(
        self,
        backbone: Backbone,
        support: SupportFrames,
        kept: Mapping[int, int],
        absent: bool,
        describe: Callable[[Features], Tensor],
    ) -> "SupportMemory":
        """The same memory with the new frames of a larger support, each of them held whatever it shows.

        Args:
            backbone: encodes.
            support: all frames.
            kept: number of a frame so far to its number in `support`.
            absent: whether an object that a new frame does not show is remembered as absent.
            describe: as in `build`.
        """
        new = sorted(set(range(len(support))) - set(kept.values()))
        held = support.shows()
        if absent:
            held[new] = True
        fresh = SupportMemory.build(backbone, support, new, held, describe)
        rows = [row for row, frame in enumerate(self.frames) if frame in kept]
        numbers = [kept[self.frames[row]] for row in rows] + new
        order = sorted(range(len(numbers)), key=numbers.__getitem__)
        entries = {(kept[f], k): entry for (f, k), entry in self.entries.items() if f in kept}
        coarse = {kept[f]: features for f, features in self.coarse.items() if f in kept}
        copies = [self.origins[row][2] for row in rows] + [origin[2] for origin in fresh.origins]
        return SupportMemory(
            entries | fresh.entries,
            coarse | fresh.coarse,
            torch.cat([self.pooled[rows], fresh.pooled])[order],
            tuple(numbers[i] for i in order),
            torch.cat([self.shows[rows], fresh.shows])[order],
            torch.cat([self.described[rows], fresh.described])[order],
            tuple((support.cases[numbers[i]], support.positions[numbers[i]], copies[i]) for i in order),
        )

    def restricted(self, pairs: Tensor) -> "SupportMemory":
        """The same memory with only some of its (frame, object) pairs, ``(n, K)`` bool."""
        allowed = {(f, k) for f, row in zip(self.frames, pairs.tolist(), strict=True) for k in _true(row)}
        entries = {pair: entry for pair, entry in self.entries.items() if pair in allowed}
        return replace(self, entries=entries, shows=pairs)

    def compose(self, wanted: Tensor) -> tuple[MemoryEntry, ...]:
        """Entries over all objects: row i holds, for object k, frame ``wanted[i, k]``; ``(n, K)``."""
        return tuple(
            MemoryEntry.across_objects(self.entries[int(frame), k] for k, frame in enumerate(row))
            for row in wanted
        )

    def most_similar(self, scores: Tensor, count: int, objects: list[int] | None = None) -> Tensor:
        """For each object the frames of highest score among those that show it.

        Args:
            scores: one score a held frame, ``(n,)``; -inf leaves a frame out.
            count: frames an object; where fewer show it, the best ones are repeated.
            objects: which objects; None takes all.

        Returns:
            Frame numbers ``(count, objects)``; ties go to the lower frame.
        """
        columns = []
        for k in range(self.shows.shape[1]) if objects is None else objects:
            allowed = scores.masked_fill(~self.shows[:, k].to(scores.device), -torch.inf)
            order = torch.sort(allowed, descending=True, stable=True)
            usable = order.indices[order.values > -torch.inf]
            chosen = usable[torch.arange(count, device=usable.device) % len(usable)]
            columns.append(torch.tensor([self.frames[int(i)] for i in chosen]))
        return torch.stack(columns, dim=1)

    def chosen(self, wanted: Tensor, scores: Tensor) -> tuple[Chosen, ...]:
        """The frames ``wanted[:, k]`` of every object as records, repetitions left out.

        Args:
            wanted: frame numbers ``(n, K)``, best first.
            scores: one score a held frame, ``(held,)``.
        """
        row_of = {frame: row for row, frame in enumerate(self.frames)}
        values, found = scores.tolist(), []
        for k, column in enumerate(wanted.T.tolist()):
            for row in (row_of[frame] for frame in dict.fromkeys(column)):
                case, position, copy = self.origins[row]
                found.append(Chosen(k, case, position, values[row], copy))
        return tuple(found)

    def evenly_spaced(self, count: int) -> Tensor:
        """For each object frames evenly spaced over those that show it: numbers ``(count, objects)``.

        Where fewer frames show it, they are repeated.
        """
        columns = []
        for shown in self.shows.T.tolist():
            chosen = spread([f for f, s in zip(self.frames, shown, strict=True) if s], count)
            columns.append(torch.tensor([chosen[i % len(chosen)] for i in range(count)]))
        return torch.stack(columns, dim=1)


def remembered(
    backbone: Backbone, features: Features, masks: Tensor, objects: list[int]
) -> dict[int, MemoryEntry]:
    """Memory of objects on one frame; all that are absent share one entry, since nothing tells them apart.

    Args:
        backbone: remembers.
        features: of the frame.
        masks: of every object, ``(K, S, S)`` bool.
        objects: which of them.
    """
    shown = [k for k in objects if bool(masks[k].any())]
    absent = [k for k in objects if k not in shown]
    rows = shown + absent[:1]
    entry = backbone.remember(features, backbone.adopt(features, masks[rows].to(backbone.device)))
    each = [entry.of(torch.tensor([row], device=backbone.device)) for row in range(len(rows))]
    return dict(zip(shown, each, strict=False)) | dict.fromkeys(absent, each[-1])


def _encoded(backbone: Backbone, support: SupportFrames, frames: list[int]) -> Iterator[tuple[int, Features]]:
    for i in range(0, len(frames), _CHUNK):
        chunk = frames[i : i + _CHUNK]
        yield from zip(chunk, backbone.encode(support.pixels[chunk].to(backbone.device)), strict=True)


def conditioning(
    backbone: Backbone, support: SupportFrames, per_class: list[list[int]]
) -> tuple[MemoryEntry, ...]:
    """Entries over all objects from the given frames of each class, repeated where one has fewer."""
    memory = SupportMemory.build(backbone, support, sorted({f for frames in per_class for f in frames}))
    count = max(len(frames) for frames in per_class)
    wanted = torch.tensor([[frames[i % len(frames)] for frames in per_class] for i in range(count)])
    return memory.compose(wanted)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of every pair of rows, ``(n, C)`` and ``(m, C)`` to ``(n, m)``, after removing b's mean.

    Pooled features of one backbone share a large common part; without it cosines spread over -1..1.
    """
    centre = b.mean(dim=0, keepdim=True) if len(b) > 1 else torch.zeros_like(b)
    return F.normalize(a - centre, dim=1) @ F.normalize(b - centre, dim=1).T


def spread_per_class(shows: Tensor, count: int) -> list[int]:
    """Frames in order, of each class at most `count` evenly spaced over those that show it, ``(N, K)``."""
    per_class = (spread(shown.nonzero()[:, 0].tolist(), count) for shown in shows.T)
    return sorted({frame for frames in per_class for frame in frames})


def retrievable(support: SupportFrames, pool: int, empty: bool) -> list[int]:
    """Frames to hold for retrieval: at most `pool` of each class, and if `empty` as many without a label."""
    shows = support.shows()
    frames = spread_per_class(shows, pool)
    without = (~shows.any(dim=1)).nonzero()[:, 0].tolist() if empty else []
    return sorted([*frames, *spread(without, pool)])


def known(support: SupportFrames) -> Tensor:
    """Whether a frame tells where an object is or that it is absent, ``(N, K)`` bool.

    A case that never shows a class may just not be labelled for it, so its frames tell nothing about it.
    """
    shows, cases = support.shows(), torch.tensor(support.cases)
    return torch.stack([shows[cases == case].any(dim=0) for case in support.cases])


def _true(row: list[bool]) -> list[int]:
    return [k for k, value in enumerate(row) if value]


def spread(candidates: Sequence[Any], count: int) -> list[Any]:
    """At most `count` of the candidates, evenly spaced and in order; the ends are included."""
    if len(candidates) <= count:
        return list(candidates)
    if count == 1:
        return [candidates[len(candidates) // 2]]
    step = (len(candidates) - 1) / (count - 1)
    return [candidates[round(i * step)] for i in range(count)]
