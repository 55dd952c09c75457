"""A refiner in training, and how good its masks are."""

import math
import random
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unprompted.refinement.examples import Example
from unprompted.refinement.network import Refiner, expected_overlap, places
from unprompted.refinement.reading import CELL, Reading
from unprompted.refinement.settings import Refinement
from unprompted.training.losses import exclusive_loss
from unprompted.training.precision import quick_in_bfloat16

_WARMUP = 20


class Trainer:
    """A refiner in training, with its optimiser."""

    def __init__(self, refiner: Refiner, settings: Refinement, steps: int, source: random.Random) -> None:
        self.refiner, self.settings, self.source = refiner, settings, source
        self.steps, self.taken = steps, 0
        self.side = int(refiner.side)
        self.place = places(self.side, refiner.mean.device)
        self.half = quick_in_bfloat16(self.place.device)
        self.optimiser = torch.optim.AdamW(refiner.parameters(), lr=settings.learning_rate, weight_decay=0.01)

    def step(self, examples: list[Example]) -> None:
        """One optimiser step on changed crops of the examples."""
        rate = self.settings.learning_rate * min(1.0, (self.taken + 1) / _WARMUP)
        rate *= 0.5 * (1 + math.cos(math.pi * self.taken / self.steps))
        self.taken += 1
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        drawn = [self._crop(*self._draw(examples)) for _ in range(self.settings.batch)]
        device = self.place.device
        reading = Reading.stacked([reading for reading, _, _, _ in drawn]).to(device)
        labels = torch.cat([labels for _, labels, _, _ in drawn]).to(device)
        asked = torch.cat([asked for _, _, asked, _ in drawn]).to(device)
        place = torch.cat([place for _, _, _, place in drawn])
        aided = torch.tensor([self.source.random() >= self.settings.unaided for _ in drawn], device=device)
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.half):
            logits = self.refiner(reading, place, aided)
        exclusive_loss(logits.float(), labels, asked).backward()
        nn.utils.clip_grad_norm_(self.refiner.parameters(), 1.0)
        self.optimiser.step()

    def _draw(self, examples: list[Example]) -> tuple[Example, int | None]:
        """A changed example, and the object it was drawn for, each as often as the others."""
        objects = sorted(set().union(*(e.shows for e in examples)))
        k = None
        if objects and self.source.random() <= self.settings.shown_share:
            k = self.source.choice(objects)
            examples = [e for e in examples if k in e.shows]
        chosen, seed = self.source.choice(examples), self.source.getrandbits(32)
        reading = chosen.reading.each(lambda part: part.float())
        if self.source.random() < self.settings.alone:
            brightness = reading.pixels[:, :3].mean(dim=1, keepdim=True)
            pixels = torch.cat([reading.pixels[:, :3], brightness, brightness], dim=1)
            reading = replace(reading, pixels=pixels)
        change = self.settings.augmentation
        pixels, labels = change.draw(reading.pixels, chosen.labels, seed)
        moved = reading.each(lambda part: part if part is reading.pixels else change.moved(part, seed))
        return replace(chosen, reading=replace(moved, pixels=pixels), labels=labels), k

    def _crop(self, example: Example, k: int | None) -> tuple[Reading, Tensor, Tensor, Tensor]:
        """A square of a frame around a pixel of an object, with labels, classes asked for and its place."""
        kept, side = min(self.settings.crop, self.side), example.labels.shape[-1]
        offsets = [self.source.randrange(self.side - kept + 1) for _ in range(2)]
        shown = None if k is None else (example.labels[0] == k + 1).nonzero()
        if kept < self.side and shown is not None and len(shown):
            middle = shown[self.source.randrange(len(shown))] * self.side // side
            offsets = [int(m) - self.source.randrange(kept) for m in middle]
        cell = CELL // 2
        row, column = (min(max(0, o), self.side - kept) // cell * cell for o in offsets)
        rows, columns = (
            slice(start * side // self.side, (start + kept) * side // self.side) for start in (row, column)
        )
        place = self.place[..., row : row + kept, column : column + kept]
        return example.reading.crop(row, column, kept), example.labels[:, rows, columns], example.asked, place


@dataclass(frozen=True, eq=False)
class Judged:
    """What masks of some frames are worth, class by class.

    Attributes:
        intersection: pixels that are found and true, ``(K,)``.
        union: pixels that are found or true.
        expected: IoU that the masks' own chances make expect; 1 of masks as the method drew them.
        shown: whether the frames show a class.
    """

    intersection: Tensor
    union: Tensor
    expected: Tensor
    shown: Tensor

    @property
    def dice(self) -> float:
        """Mean over the classes that are shown, 0 where none is."""
        dice = 2 * self.intersection / (self.intersection + self.union).clamp(min=1)
        return float(dice[self.shown].mean()) if bool(self.shown.any()) else 0.0

    @property
    def trust(self) -> Tensor:
        """IoU as a share of what was to be expected, ``(K,)``, at most 1.

        A class counts half, the mean of all half: few frames judge. One that is not shown has the mean.
        """
        share = (self.intersection / self.union.clamp(min=1) / self.expected.clamp(min=1e-6)).clamp(max=1)
        mean = share[self.shown].mean() if bool(self.shown.any()) else torch.tensor(1.0)
        return torch.where(self.shown, (share + mean) / 2, mean)


@torch.no_grad()
def judge(examples: list[Example], refiner: Refiner | None) -> Judged:
    """What masks of some frames are worth all together; None judges them as the method drew them."""
    objects = examples[0].asked.shape[1]
    intersection, union, true, inside, around = (torch.zeros(objects) for _ in range(5))
    for example in examples:
        reading = Reading.stacked([example.reading])
        logits = reading.logits.cpu()
        if refiner:
            logits = refiner.drawn(reading.to(refiner.mean.device)).cpu()
            for total, part in zip((inside, around), expected_overlap(logits.transpose(0, 1)), strict=True):
                total += part
        full = F.interpolate(logits, example.labels.shape[-2:], mode="bilinear", align_corners=False)
        strongest, index = full.max(dim=1)
        number = torch.where(strongest > 0, index + 1, 0)
        for k in range(objects):
            found, labelled = number == k + 1, example.labels == k + 1
            intersection[k] += (found & labelled).sum()
            union[k] += (found | labelled).sum()
            true[k] += labelled.sum()
    expected = inside / around if refiner else torch.ones(objects)
    return Judged(intersection, union, expected, true > 0)
