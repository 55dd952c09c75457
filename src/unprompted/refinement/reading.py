"""What a refiner reads of a frame.

Letters in shapes: N frames, K objects, P side of the square that is worked on.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor

SURE = 8.0  # logits beyond this say nothing more
CHANNELS = 5  # of the pixels: colours, then brightness of the slice before and of the one after
CELL = 32  # pixels: the coarsest level of a refiner
_STRIDES = {"pixels": 1, "logits": 4}


@dataclass(frozen=True, eq=False)
class Reading:
    """What is read of frames.

    Attributes:
        pixels: ``(N, 5, P, P)`` in 0..1.
        logits: ``(N, K, P/4, P/4)``, masks as the method drew them.
    """

    pixels: Tensor
    logits: Tensor

    @classmethod
    def of(cls, pixels: Tensor, logits: Tensor, side: int) -> "Reading":
        """Read one frame.

        Args:
            pixels: of the frame and its neighbours, ``(1, 5, S, S)``.
            logits: ``(K, 1, h, w)``.
            side: P; whatever is finer is averaged.
        """
        masks = logits.detach().float().transpose(0, 1).clamp(-SURE, SURE)
        return cls(averaged(pixels, side), averaged(masks, side // _STRIDES["logits"]))

    @staticmethod
    def stacked(readings: list["Reading"]) -> "Reading":
        """Readings of several frames as one, in single precision."""
        names = [f.name for f in fields(Reading)]
        return Reading(**{n: torch.cat([getattr(r, n) for r in readings]).float() for n in names})

    def each(self, change: Callable[[Tensor], Tensor]) -> "Reading":
        """The same with every part changed alike."""
        return Reading(**{f.name: change(getattr(self, f.name)) for f in fields(self)})

    def half(self) -> "Reading":
        """The same in half precision, to be kept."""
        return self.each(lambda part: part.half())

    def to(self, device: torch.device) -> "Reading":
        """The same on another device."""
        return self.each(lambda part: part.to(device))

    def crop(self, row: int, column: int, side: int) -> "Reading":
        """A square of the pixels; its place and side are multiples of 16."""
        parts = {}
        for name, stride in _STRIDES.items():
            top, left, extent = row // stride, column // stride, side // stride
            parts[name] = getattr(self, name)[..., top : top + extent, left : left + extent]
        return Reading(**parts)


def averaged(x: Tensor, side: int) -> Tensor:
    """Maps ``(..., h, w)`` averaged to a square."""
    return x if x.shape[-1] == side else F.adaptive_avg_pool2d(x.float(), side)
