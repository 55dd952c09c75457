"""A refiner in training, and how good its masks are."""

import math
import random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unprompted.refinement.examples import Example
from unprompted.refinement.network import Reading, Refiner
from unprompted.refinement.settings import Refinement
from unprompted.training.losses import exclusive_loss

_WARMUP = 20


class Trainer:
    """A refiner in training, with its optimiser."""

    def __init__(self, refiner: Refiner, settings: Refinement, steps: int, source: random.Random) -> None:
        self.refiner, self.settings, self.source = refiner, settings, source
        self.steps, self.taken = steps, 0
        self.optimiser = torch.optim.AdamW(refiner.parameters(), lr=settings.learning_rate, weight_decay=0.01)

    def step(self, examples: list[Example], share: float) -> None:
        """One optimiser step on crops of the examples, at a share of the settings' learning rate."""
        rate = share * self.settings.learning_rate * min(1.0, (self.taken + 1) / _WARMUP)
        rate *= 0.5 * (1 + math.cos(math.pi * self.taken / self.steps))
        self.taken += 1
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        drawn = [self._crop(self._draw(examples)) for _ in range(self.settings.batch)]
        device = self.refiner.mean.device
        logits = self.refiner(Reading.stacked([reading for reading, _, _ in drawn]).to(device))
        labels = torch.cat([labels for _, labels, _ in drawn]).to(device)
        asked = torch.cat([asked for _, _, asked in drawn]).to(device)
        self.optimiser.zero_grad(set_to_none=True)
        exclusive_loss(logits, labels, asked).backward()
        nn.utils.clip_grad_norm_(self.refiner.parameters(), 1.0)
        self.optimiser.step()

    def _draw(self, examples: list[Example]) -> tuple[Example, int | None]:
        """An example, and the object it was drawn for, each as often as the others."""
        objects = sorted(set().union(*(e.shows for e in examples)))
        if not objects or self.source.random() > self.settings.shown_share:
            return self.source.choice(examples), None
        k = self.source.choice(objects)
        return self.source.choice([e for e in examples if k in e.shows]), k

    def _crop(self, drawn: tuple[Example, int | None]) -> tuple[Reading, Tensor, Tensor]:
        """A quarter of a frame, around a pixel of the object it was drawn for."""
        example, k = drawn
        side, cells = example.labels.shape[-1], example.reading.logits.shape[-1] // 4
        kept = (cells + 1) // 2
        if k is None:
            row, column = (self.source.randrange(cells - kept + 1) for _ in range(2))
        else:
            places = (example.labels[0] == k + 1).nonzero()
            middle = places[self.source.randrange(len(places))] * cells // side
            offsets = [int(m) - self.source.randrange(kept) for m in middle]
            row, column = (min(max(0, o), cells - kept) for o in offsets)
        pixels = side // cells  # of the labels a cell
        rows, columns = (
            slice(row * pixels, (row + kept) * pixels),
            slice(column * pixels, (column + kept) * pixels),
        )
        reading = example.reading.crop(4 * row, 4 * column, 4 * kept)
        return reading, example.labels[:, rows, columns], example.asked


@torch.no_grad()
def mean_dice(examples: list[Example], refiner: Refiner | None) -> float:
    """Dice over some frames together, mean over the classes they show; None judges the masks as they are."""
    objects = examples[0].asked.shape[1]
    overlap, total, shown = (torch.zeros(objects) for _ in range(3))
    for example in examples:
        reading = Reading.stacked([example.reading])
        device = refiner.mean.device if refiner else reading.logits.device
        logits = refiner(reading.to(device)).cpu() if refiner else reading.logits.cpu()
        full = F.interpolate(logits, example.labels.shape[-2:], mode="bilinear", align_corners=False)
        strongest, index = full.max(dim=1)
        number = torch.where(strongest > 0, index + 1, 0)
        for k in range(objects):
            found, true = number == k + 1, example.labels == k + 1
            overlap[k] += (found & true).sum()
            total[k] += found.sum() + true.sum()
            shown[k] += true.sum()
    dice = 2 * overlap / total.clamp(min=1)
    return float(dice[shown > 0].mean()) if bool((shown > 0).any()) else 0.0
