"""The way back: a prediction acts as support for labelled cases, whose truth is known.

Paper: Valindria et al., "Reverse Classification Accuracy", IEEE TMI 36(8), 2017, arXiv:1702.03407. There a
classifier is trained on each prediction; here a few-shot method gets it as its support, which takes no
training. What is segmented back are a few slices of the labelled cases most like the query.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from unprompted.backbones.base import Backbone
from unprompted.engine.frames import EncodedFrames, LabelledSlices, labelled_frames
from unprompted.engine.gallery import Gallery
from unprompted.engine.merge import merge
from unprompted.engine.sweep import sweep
from unprompted.engine.views import Look, World
from unprompted.images import Volume
from unprompted.methods.base import Method


@dataclass(frozen=True, eq=False)
class _Reference:
    """Slices of one labelled case: encoded, and their true object numbers ``(n, S, S)``."""

    frames: EncodedFrames
    truth: NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class RoundTrip:
    """Segments slices of the support from predictions; each labelled case is encoded once.

    Attributes:
        method: what segments back; one that learns nothing offline.
        backbone: the backbone.
        gallery: the support, and how cases are looked at.
        slices: of the query that act as support, and of the support that are segmented back.
    """

    method: Method
    backbone: Backbone
    gallery: Gallery
    slices: int = 4
    _references: dict[int, _Reference] = field(default_factory=dict, repr=False)

    def dice(
        self, volume: Volume, numbers: NDArray[np.integer], nearest: Sequence[int]
    ) -> dict[int, dict[int, float]]:
        """Dice on labelled cases that are segmented from a prediction.

        Args:
            volume: a query cut along the task's axis.
            numbers: its prediction ``(D, H, W)``, object number 1..K, 0 is background.
            nearest: numbers of labelled cases, the one most like the query first; as many are taken as
                fill `slices`.

        Returns:
            For each labelled case taken, object number to Dice, of objects that both of them show.
        """
        stack = self.gallery.scaled(volume)
        look = Look.into(World(), self.gallery.axis, self.gallery.region(stack))
        shown, labels = self.gallery.shown(stack, look), look.of(numbers)
        positions = _telling(labels, self.slices)
        found = [int(k) for k in np.unique(labels[positions]) if k]
        if not found:
            return {}
        images = [shown[position : position + 1][0] for position in positions]
        query = LabelledSlices(images, list(labels[positions]), positions)
        frames = labelled_frames([query], found, self.backbone.input_size)
        with torch.no_grad():
            record = self.method.prepare(self.backbone, frames, {})
        return {case: self._back(record, self._reference(case), found) for case in self._taken(nearest)}

    def _back(self, record: object, reference: _Reference, found: Sequence[int]) -> dict[int, float]:
        """Dice of each object that the reference shows."""
        numbers = np.zeros_like(reference.truth)
        for position, step in sweep(self.method, self.backbone, record, reference.frames):
            number = merge(step.decoded.logits, *numbers.shape[1:])[0].cpu().numpy()
            numbers[position] = np.array([0, *found])[number]
        dices = {}
        for k in found:
            back, truth = numbers == k, reference.truth == k
            if truth.any():
                dices[k] = 2 * float((back & truth).sum()) / float(back.sum() + truth.sum())
        return dices

    def _taken(self, nearest: Sequence[int]) -> list[int]:
        """The nearest cases, until they fill the slices there are."""
        taken, slices = [], 0
        for case in nearest:
            if slices >= self.slices:
                break
            if shown := len(self._reference(case).truth):
                taken.append(case)
                slices += shown
        return taken

    def _reference(self, case: int) -> _Reference:
        if case not in self._references:
            frames = self.gallery.frames(World(), self.backbone.input_size)
            own = [n for n, c in enumerate(frames.cases) if c == case]
            labels = frames.labels[own].numpy()
            chosen = _telling(labels, self.slices)
            pixels = frames.pixels[own][chosen].permute(0, 2, 3, 1).numpy()
            self._references[case] = _Reference(EncodedFrames(self.backbone, pixels), labels[chosen])
        return self._references[case]


def _telling(labels: NDArray[np.integer], count: int) -> list[int]:
    """Evenly spaced slices that show a class, and the middle slice of each class those leave out."""
    shown = np.flatnonzero(labels.any(axis=(1, 2)))
    if not len(shown):
        return []
    rows = np.linspace(0, len(shown) - 1, min(count, len(shown))).round().astype(int)
    chosen = set(shown[rows].tolist())
    for k in set(np.unique(labels).tolist()) - {0} - set(np.unique(labels[sorted(chosen)]).tolist()):
        own = np.flatnonzero((labels == k).any(axis=(1, 2)))
        chosen.add(int(own[len(own) // 2]))
    return sorted(chosen)
