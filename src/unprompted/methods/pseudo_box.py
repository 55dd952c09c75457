"""Boxes around pseudo-masks. A building block of methods; it is not a method itself."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

Components = Literal["largest", "all"]


def boxes_around(masks: Tensor, margin: float, components: Components) -> tuple[Tensor, Tensor]:
    """The box of each mask that is not empty.

    Args:
        masks: ``(K, S, S)`` bool.
        margin: added on every side, relative to the box's width or height; cut off at the frame.
        components: what is boxed: the largest 8-connected component, or everything.

    Returns:
        Which masks have a box, indices ``(k,)``, and their boxes ``(k, 4)`` as x0, y0, x1, y1 in pixels:
        centres of the outermost pixels, plus the margin.
    """
    found = {k: mask for k, mask in enumerate(masks.cpu().numpy()) if mask.any()}
    last = masks.shape[-1] - 1
    corners = [_corners(_largest(m) if components == "largest" else m) for m in found.values()]
    boxes = torch.tensor(corners, dtype=torch.float32).view(-1, 4)
    wide = (boxes[:, 2:] - boxes[:, :2] + 1).repeat(1, 2) * margin
    boxes = (boxes + wide * torch.tensor([-1.0, -1.0, 1.0, 1.0])).clamp(0, last)
    return torch.tensor(list(found), dtype=torch.long, device=masks.device), boxes.to(masks.device)


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    numbers, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    sizes = np.bincount(numbers.ravel())
    sizes[0] = 0
    largest: NDArray[np.bool_] = numbers == sizes.argmax()
    return largest


def _corners(mask: NDArray[np.bool_]) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])]
