"""What a refiner learns from: support frames with masks drawn from other parts of the support."""

from dataclasses import dataclass

import torch
from torch import Tensor

from unprompted.backbones.base import Backbone
from unprompted.engine.frames import EncodedFrames, to_label_frame, with_brightness
from unprompted.engine.sweep import sweep
from unprompted.methods.base import Method, Progress, SupportFrames
from unprompted.methods.support_memory import known, spread
from unprompted.refinement.reading import Reading
from unprompted.refinement.settings import Refinement


@dataclass(frozen=True, eq=False)
class Example:
    """A support frame.

    Attributes:
        reading: with masks drawn from other parts of the support, in half precision.
        labels: ``(1, L, L)`` object numbers; L is a multiple of the side of the reading.
        asked: objects its case is labelled for, ``(1, K)`` bool.
        shows: indices of the objects it shows.
    """

    reading: Reading
    labels: Tensor
    asked: Tensor
    shows: frozenset[int]


@dataclass(frozen=True, eq=False)
class Gathering:
    """Makes examples of the parts of a support, at the side a refiner works on."""

    method: Method
    backbone: Backbone
    support: SupportFrames
    learned: dict[str, Tensor]
    settings: Refinement
    side: int

    @torch.no_grad()
    def part(self, own: list[int], parts: list[list[int]], progress: Progress) -> list[Example]:
        """Examples of one part, from masks that the other parts gave."""
        support = self.support
        rest = [frame for other in parts if other is not own for frame in other]
        frames = spread(own, max(1, self.settings.examples // len(parts)))
        fitted = self.method.prepare(self.backbone, support.only(rest), self.learned)
        encoded = EncodedFrames(self.backbone, support.pixels[frames].permute(0, 2, 3, 1).numpy())
        asked, done = known(support), parts.index(own) * len(frames)
        found: dict[int, Example] = {}
        for position, step in sweep(self.method, self.backbone, fitted, encoded):
            frame = frames[position]
            labels = self._labels(frame)
            shows = frozenset((torch.unique(labels[labels > 0]).long() - 1).tolist())
            pixels = self._shown(frame).to(self.backbone.device)
            reading = Reading.of(pixels, step.decoded.logits, self.side)
            found[position] = Example(reading.half(), labels, asked[[frame]], shows)
            progress("segmenting the support", done + len(found), len(parts) * len(frames))
        return [found[position] for position in range(len(frames))]

    def _labels(self, frame: int) -> Tensor:
        """Labels of a support frame, as fine as the support has them where crops can be cut from that."""
        labels = self.support.labels[[frame]]
        if labels.shape[-1] % self.side == 0:
            return labels
        return to_label_frame(labels[0].numpy(), range(1, self.support.objects + 1), self.side)[None]

    def _shown(self, frame: int) -> Tensor:
        """A support frame with the brightness of the slices before and after, where the support has them."""
        support = self.support

        def neighbour(step: int) -> int:
            other = frame + step
            if not 0 <= other < len(support.cases) or support.cases[other] != support.cases[frame]:
                return frame
            return other if support.positions[other] == support.positions[frame] + step else frame

        return with_brightness(*(support.pixels[[n]] for n in (frame, neighbour(-1), neighbour(+1))))


def parts_of(support: SupportFrames) -> list[list[int]]:
    """Frames of each patient, or case, or half of a single one; none if one part alone shows a class."""
    groups = support.groups
    parts = [[n for n, g in enumerate(groups) if g == group] for group in sorted(set(groups))]
    if len(parts) == 1:
        frames = parts[0]
        parts = [half for half in (frames[: len(frames) // 2], frames[len(frames) // 2 :]) if half]
    shows = support.shows()
    shown = shows.any(dim=0)
    told = []
    for part in parts:
        rest = [n for other in parts if other is not part for n in other]
        told.append(bool(rest) and torch.equal(shows[rest].any(dim=0), shown))
    return parts if all(told) else []
