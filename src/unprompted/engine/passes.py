"""A method in every world of a task, and the mean of what it says there."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unprompted.backbones.base import Backbone
from unprompted.engine.frames import EncodedFrames
from unprompted.engine.gallery import Gallery
from unprompted.engine.limits import DEFAULT_LIMITS, Limits
from unprompted.engine.merge import merge, merge_probabilities, probabilities
from unprompted.engine.nearness import Near
from unprompted.engine.parts import in_parts
from unprompted.engine.regions import Region, around_found, clearly_smaller, everything
from unprompted.engine.resting import Resting
from unprompted.engine.shown import ScaledSlices
from unprompted.engine.sweep import sweep
from unprompted.engine.views import Look, Views, World
from unprompted.geometry import Grid
from unprompted.images import Volume
from unprompted.methods.base import Method, Progress, Teachable
from unprompted.prediction import Chosen
from unprompted.slices import release, room_for

# mask logits (K, 1, h, w) of a frame to better ones, and the quality (K,) of those
Finish = Callable[[EncodedFrames, int, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class Said:
    """What a method says about one frame of one world.

    Attributes:
        position: index of the frame in its pass.
        logits: ``(K, 1, h, w)`` of the part that is looked at.
        quality: ``(K,)`` in 0..1.
        chosen: the support the frame was given.
    """

    position: int
    logits: Tensor
    quality: Tensor
    chosen: tuple[Chosen, ...]


@dataclass(frozen=True, eq=False)
class Kept:
    """What a method said about all frames of a pass; the masks of many frames lie on disk.

    Attributes:
        said: without the masks.
        logits: ``(D, K, 1, h, w)`` by position.
    """

    said: tuple[Said, ...]
    logits: NDArray[np.float32]

    @classmethod
    def all_of(cls, said: Iterator[Said], depth: int) -> "Kept":
        """Keep a whole pass."""
        kept: list[Said] = []
        logits: NDArray[np.float32] | None = None
        for frame in said:
            if logits is None:
                logits = room_for((depth, *frame.logits.shape), np.float32)
            logits[frame.position] = frame.logits.float().cpu().numpy()
            release(logits)
            kept.append(replace(frame, logits=torch.empty(0), quality=frame.quality.cpu()))
        assert logits is not None
        return cls(tuple(kept), logits)

    def __iter__(self) -> Iterator[Said]:
        for frame in self.said:
            yield replace(frame, logits=torch.from_numpy(self.logits[frame.position].copy()))
            release(self.logits)


@dataclass(frozen=True, eq=False)
class Found:
    """One slice of a case as the task cuts it.

    Attributes:
        position: its index.
        number: ``(H, W)`` int64, object number 1..K, 0 is background.
        probability: ``(H, W)`` float32 of the number.
        quality: ``(K,)`` in 0..1.
        chosen: the support its last pass was given.
    """

    position: int
    number: Tensor
    probability: Tensor
    quality: Tensor
    chosen: tuple[Chosen, ...]


def learn(
    method: Method, backbone: Backbone, gallery: Gallery, seed: int, progress: Progress
) -> dict[str, Tensor]:
    """What a method learns offline, world by world; names of all but the plain world have a prefix."""
    learned: dict[str, Tensor] = {}
    for world in gallery.geometries:
        found = method.train(backbone, gallery.frames(world, backbone.input_size), seed, progress)
        learned |= {world.prefix + name: value for name, value in found.items()}
    return learned


def following(views: Views, backbone: Backbone) -> Backbone:
    """A backbone that leaves out of a sweep what the views that are for speed let it."""
    rested = Resting(backbone) if views.rest else backbone
    return Near(rested) if views.near else rested


@dataclass(frozen=True, eq=False)
class Mean:
    """The mean over several passes of one case, on the grid of the task.

    Attributes:
        soft: probability of every object so far, ``(D, H, W, K)`` float16; a large one lies on disk.
        quality: quality so far, ``(D, K)``.
        share: what one pass counts.
    """

    soft: NDArray[np.float16]
    quality: NDArray[np.float32]
    share: float

    @classmethod
    def over(cls, passes: int, shape: tuple[int, ...], objects: int) -> "Mean":
        """The mean over a number of passes, none of them added yet."""
        soft = room_for((*shape, objects), np.float16)
        return cls(soft, np.zeros((shape[0], objects), np.float32), 1 / passes)

    def add(self, look: Look, said: Iterator[Said], across: bool) -> None:
        """Add a pass.

        Args:
            look: how it saw the case.
            said: what it says.
            across: its slices cross those of the task; a slice of the task then has the mean quality of
                those that cross it, by the pixels they find in it.
        """
        seen = look.of(self.soft)
        depth = np.arange(len(self.soft)).reshape(-1, 1, 1)
        rows = look.of(np.broadcast_to(depth, self.soft.shape[:3]))
        scores, pixels = np.zeros_like(self.quality), np.zeros_like(self.quality)
        for frame in said:
            soft = probabilities(frame.logits, *seen.shape[1:3]).cpu().numpy()
            seen[frame.position] += (soft * self.share).astype(np.float16)
            release(self.soft)
            score = frame.quality.float().cpu().numpy()
            if not across:
                self.quality[frame.position] += score * self.share
                continue
            for k in range(len(score)):
                found = np.bincount(rows[frame.position][soft[..., k] > 0.5], minlength=len(scores))
                scores[:, k] += found * score[k]
                pixels[:, k] += found
        self.quality[:] += scores / np.maximum(pixels, 1) * self.share

    def finished(self, window: tuple[slice, slice], frame: Said) -> Found:
        """One slice, with what the last pass says about a window of it."""
        soft = torch.from_numpy(self.soft[frame.position].astype(np.float32))
        height, width = soft[window].shape[:2]
        soft[window] += probabilities(frame.logits, height, width).cpu() * self.share
        quality = torch.from_numpy(self.quality[frame.position]) + frame.quality.float().cpu() * self.share
        return Found(frame.position, *merge_probabilities(soft), quality, frame.chosen)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A method prepared in every world of a task; shared by all cases.

    Attributes:
        method: the method.
        backbone: the backbone.
        gallery: the support, and how cases are looked at.
        records: the method's record of the support in each world.
        finish: what redraws the masks of a world, by its prefix; worlds without one keep them.
    """

    method: Method
    backbone: Backbone
    gallery: Gallery
    records: dict[World, Any]
    finish: Mapping[str, Finish] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        method: Method,
        backbone: Backbone,
        gallery: Gallery,
        learned: dict[str, Tensor],
        finish: Mapping[str, Finish],
    ) -> "Prepared":
        """Put the support into the method's memory, world by world."""
        records = {
            world: method.prepare(backbone, gallery.frames(world, backbone.input_size), world.own(learned))
            for world in gallery.worlds
        }
        return cls(method, backbone, gallery, records, finish)

    def taught(self, gallery: Gallery, learned: dict[str, Tensor], kept: Mapping[int, int]) -> "Prepared":
        """The same with a larger support; what is in memory already stays, where the method can do that.

        Args:
            gallery: the larger support.
            learned: what the method learned offline.
            kept: number of a support slice so far to its number among the new ones.
        """
        if gallery.views.names or not isinstance(self.method, Teachable):
            return Prepared.of(self.method, self.backbone, gallery, learned, self.finish)
        size = self.backbone.input_size
        records = {
            world: self.method.teach(self.backbone, record, gallery.frames(world, size), kept)
            for world, record in self.records.items()
        }
        return replace(self, gallery=gallery, records=records)

    def segment(self, volume: Volume, limits: Limits = DEFAULT_LIMITS) -> Iterator[Found]:
        """Every slice of a case cut along the task's axis, in the order of its last pass."""
        height, width = volume.grid.shape[1:]
        stack = self.gallery.scaled(volume)
        region = self.gallery.region(stack)
        first, zoomed = None, False
        if self.gallery.views.zoom:
            first = Kept.all_of(self._said(World(), stack, region, limits), len(stack))
            nearer = self._nearer(first, region, volume.grid)
            if nearer is not None:
                region, first, zoomed = nearer, None, True
        *others, last = self.gallery.worlds_for(volume, zoomed)
        said = first or self._said(last, stack, region, limits)
        if not others and region == everything(stack.shape):
            for frame in said:
                merged = merge(frame.logits, height, width)
                yield Found(frame.position, *merged, frame.quality, frame.chosen)
            return
        mean = Mean.over(len(others) + 1, stack.shape[:3], len(self.gallery.support.classes))
        for world in others:
            said_there = self._said(world, stack, region, limits)
            mean.add(self._look(world, region), said_there, world.axis is not None)
        for frame in said:
            yield mean.finished((region[1], region[2]), frame)

    def _nearer(self, first: Iterable[Said], region: Region, grid: Grid) -> Region | None:
        """The region around what a first pass found; None where that is nothing or about everything."""
        numbers = room_for(grid.shape, np.int16)
        seen = self._look(World(), region).of(numbers)
        for frame in first:
            seen[frame.position] = merge(frame.logits, *seen.shape[1:])[0].numpy()
            release(numbers)
        found = around_found(numbers, self.gallery.expected_size(grid))
        return found if found is not None and clearly_smaller(found, region) else None

    def _said(self, world: World, stack: ScaledSlices, region: Region, limits: Limits) -> Iterator[Said]:
        shown = self.gallery.shown(stack, self._look(world, region))
        again = self.method.looks_ahead  # else no frame is needed twice, so none is kept
        frames = EncodedFrames(self.backbone, shown, limits if again else replace(limits, kept_bytes=0))
        backbone = following(self.gallery.views, in_parts(self.backbone, limits.objects))
        for position, step in sweep(self.method, backbone, self.records[world], frames):
            logits, quality = step.decoded.logits, step.quality
            if world.prefix in self.finish:
                logits, quality = self.finish[world.prefix](frames, position, logits)
            yield Said(position, logits, quality, step.chosen)

    def _look(self, world: World, region: Region) -> Look:
        return Look.into(world, self.gallery.axis, region)
