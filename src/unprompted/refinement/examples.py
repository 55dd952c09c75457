"""What a refiner learns from: support frames with masks drawn from other parts of the support."""

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from unprompted.backbones.base import Backbone
from unprompted.engine.frames import EncodedFrames
from unprompted.engine.sweep import sweep
from unprompted.methods.base import Method, Progress, SupportFrames
from unprompted.methods.support_memory import known, spread
from unprompted.refinement.network import Reading
from unprompted.refinement.settings import Refinement

_MOST_COPIES = 16  # of one frame


@dataclass(frozen=True, eq=False)
class Example:
    """A support frame, or a changed copy of it.

    Attributes:
        reading: with masks drawn from other parts of the support, in half precision.
        labels: ``(1, S, S)`` object numbers.
        asked: objects its case is labelled for, ``(1, K)`` bool.
        shows: indices of the objects it shows.
        copy: 0 for the frame itself.
    """

    reading: Reading
    labels: Tensor
    asked: Tensor
    shows: frozenset[int]
    copy: int


@dataclass(frozen=True, eq=False)
class Gathering:
    """Makes examples of the parts of a support."""

    method: Method
    backbone: Backbone
    support: SupportFrames
    learned: dict[str, Tensor]
    settings: Refinement
    source: random.Random

    @torch.no_grad()
    def part(self, own: list[int], parts: list[list[int]], progress: Progress) -> list[Example]:
        """Examples of one part, from masks that the other parts gave."""
        settings, support = self.settings, self.support
        rest = [frame for other in parts if other is not own for frame in other]
        frames = spread(own, max(1, settings.examples // (3 * len(parts))))
        fitted = self.method.prepare(self.backbone, support.only(rest), self.learned)
        encoded = EncodedFrames(self.backbone, support.pixels[frames].permute(0, 2, 3, 1).numpy())
        drawn: dict[int, Tensor] = {}
        for position, step in sweep(self.method, self.backbone, fitted, encoded):
            drawn[position] = step.decoded.logits
            progress(
                "segmenting the support",
                parts.index(own) * len(frames) + len(drawn),
                len(parts) * len(frames),
            )
        copies = min(_MOST_COPIES, max(1, settings.examples // (len(frames) * len(parts))))
        asked = known(support)
        found = []
        for position, frame in enumerate(frames):
            for number in range(copies):
                pixels, labels = support.pixels[[frame]], support.labels[[frame]]
                features, logits = encoded[position], drawn[position]
                if number:
                    change = self.source.getrandbits(32)
                    pixels, labels = settings.augmentation.draw(pixels, labels, change)
                    features = self.backbone.encode(pixels.to(self.backbone.device))[0]
                    logits = settings.augmentation.moved(logits.transpose(0, 1), change).transpose(0, 1)
                shows = frozenset((torch.unique(labels[labels > 0]).long() - 1).tolist())
                reading = Reading.of(features, logits, settings.grid).half()
                found.append(Example(reading, labels, asked[[frame]], shows, number))
        return found


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
