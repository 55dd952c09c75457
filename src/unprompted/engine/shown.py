"""A case as a world shows it, scaled and turned a few slices at a time: no copy of it is ever made."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from unprompted.engine.views import Look, with_neighbours
from unprompted.intensity import Scaled, Voxels
from unprompted.slices import Slices, release


@dataclass(frozen=True, eq=False)
class ScaledSlices:
    """A case ``(D, H, W)`` or ``(D, H, W, 3)`` in 0..1; what is asked for is scaled then.

    Attributes:
        voxels: as stored.
        scale: from stored values to 0..1, each by itself.
    """

    voxels: Slices
    scale: Callable[[Voxels], Scaled]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole case."""
        return self.voxels.shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return self.voxels.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the scaled values."""
        return np.dtype(np.float32)

    def __len__(self) -> int:
        return len(self.voxels)

    def __getitem__(self, where: Any, /) -> Scaled:
        found = self.scale(np.asarray(self.voxels[where]))
        release(self.voxels)
        return found


@dataclass(frozen=True, eq=False)
class ShownSlices:
    """What a look shows of a case, ``(D', H', W')`` or ``(D', H', W', 3)``, slice by slice.

    Attributes:
        stack: the case.
        look: how it is seen.
        neighbours: whether the slices before and after are the first and third channel.
    """

    stack: ScaledSlices
    look: Look
    neighbours: bool = False

    def __len__(self) -> int:
        return len(self.look.slices(self.stack))

    def __getitem__(self, part: slice) -> Scaled:
        """Some slices in order, without gaps."""
        first, last, _ = part.indices(len(self))
        if not self.neighbours:
            return self._plain(first, last)
        start, stop = max(0, first - 1), min(len(self), last + 1)
        around = with_neighbours(self._plain(start, stop), range(start, stop))
        return around[first - start : last - start]

    def _plain(self, start: int, stop: int) -> Scaled:
        return self.look.only(self.look.slices(self.stack)[start:stop]).of(self.stack)
