"""Places of a frame in groups: some of them alone, all others square by square."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

_SQUARES = 8  # along each side of a frame


@dataclass(frozen=True, eq=False)
class Groups:
    """Places that go together.

    Attributes:
        group: number of the group of each place, ``(HW,)``.
        sizes: places of each group, ``(n,)``.
    """

    group: Tensor
    sizes: Tensor

    @classmethod
    def of(cls, places: Tensor) -> "Groups":
        """Groups in which these places ``(HW,)`` bool are alone."""
        side = round(len(places) ** 0.5)
        rows = torch.arange(side, device=places.device) // max(1, side // _SQUARES)
        squares = (rows[:, None] * side + rows).flatten()
        alone = len(places) + torch.arange(len(places), device=places.device)
        _, group, sizes = torch.where(places, alone, squares).unique(return_inverse=True, return_counts=True)
        return cls(group, sizes)

    def means(self, cells: Tensor) -> Tensor:
        """The mean of each group, ``(HW, ...)`` to ``(n, ...)``."""
        sums = cells.new_zeros(len(self.sizes), *cells.shape[1:], dtype=torch.float32)
        sums.index_add_(0, self.group, cells.float())
        return (sums / self.sizes.view(-1, *(1,) * (cells.ndim - 1))).to(cells.dtype)

    @property
    def bias(self) -> Tensor:
        """What is added to scores ``(n,)``, so that a mean counts as often as its places would."""
        return self.sizes.float().log()


def widened(places: Tensor) -> Tensor:
    """Places ``(HW,)`` bool and those as near to them as a square is wide."""
    side = round(len(places) ** 0.5)
    reach = max(1, side // _SQUARES)
    shown = places.view(1, 1, side, side).float()
    return (F.max_pool2d(shown, 2 * reach + 1, stride=1, padding=reach) > 0).flatten()
