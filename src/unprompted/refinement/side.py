"""The side of the square that a refiner works on: quick, and fine enough to draw the classes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from unprompted.refinement.reading import CELL

_SMALLEST, _USUAL, _LARGEST = 64, 192, 256
_DRAWN = 0.95  # mean Dice with themselves of labels that were averaged to a side


def side_for(longest: int, labels: Tensor) -> int:
    """The side that a support needs, a multiple of 32.

    Args:
        longest: side of the support's slices, in their own pixels.
        labels: ``(N, S, S)`` object numbers; the side is at most S.
    """
    largest = labels.shape[-1] // CELL * CELL
    usual = min(largest, max(_SMALLEST, -(-min(longest, _USUAL) // CELL) * CELL))
    return usual if drawn_again(labels, usual) >= _DRAWN else min(largest, _LARGEST)


def drawn_again(labels: Tensor, side: int) -> float:
    """Dice of labels ``(N, S, S)`` with themselves drawn on a square of another side, mean over classes."""
    count = int(labels.max()) + 1
    overlap, total = torch.zeros(count), torch.zeros(count)
    for label in labels.long():
        one_hot = F.one_hot(label, count).permute(2, 0, 1)[None].float()
        soft = F.adaptive_avg_pool2d(one_hot, side)
        drawn = F.interpolate(soft, label.shape, mode="bilinear", align_corners=False)[0].argmax(dim=0)
        overlap += torch.bincount(label[drawn == label], minlength=count)
        total += torch.bincount(label.flatten(), minlength=count)
        total += torch.bincount(drawn.flatten(), minlength=count)
    shown = total[1:] > 0
    return float((2 * overlap[1:] / total[1:])[shown].mean()) if bool(shown.any()) else 1.0
