"""The network that redraws masks, and what it reads of a frame.

Letters in shapes: N frames, K objects, G side of the feature grid.
"""

from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unprompted.backbones.base import Features

_SURE = 8.0  # logits beyond this say nothing more
_MIDDLE, _FINE, _LAST = 32, 16, 24  # channels read of the finer levels, and before the last layer


@dataclass(frozen=True, eq=False)
class Reading:
    """What is read of frames.

    Attributes:
        fine: ``(N, C/8, G, G)``.
        middle: ``(N, C/4, G/2, G/2)``.
        coarse: ``(N, C, G/4, G/4)``.
        pixels: ``(N, 3, 4G, 4G)`` in 0..1.
        logits: ``(N, K, G, G)``, masks as the method drew them.
    """

    fine: Tensor
    middle: Tensor
    coarse: Tensor
    pixels: Tensor
    logits: Tensor

    @classmethod
    def of(cls, features: Features, logits: Tensor, grid: int) -> "Reading":
        """Read one frame.

        Args:
            features: of the frame; where the encoder keeps no pixels, they are read as zeros.
            logits: ``(K, 1, h, w)``.
            grid: largest G; finer features are averaged.
        """
        side = min(features.levels[0].shape[-1], grid)
        parts = zip((1, 2, 4), features.levels, strict=True)
        fine, middle, coarse = (_averaged(level, side // stride) for stride, level in parts)
        pixels = features.pixels
        if pixels is None:
            pixels = fine.new_zeros(1, 3, 4 * side, 4 * side)
        masks = logits.detach().float().transpose(0, 1).clamp(-_SURE, _SURE)
        return cls(fine, middle, coarse, _averaged(pixels, 4 * side), _averaged(masks, side))

    @staticmethod
    def stacked(readings: list["Reading"]) -> "Reading":
        """Readings of several frames as one, in single precision."""
        names = [f.name for f in fields(Reading)]
        return Reading(**{n: torch.cat([getattr(r, n) for r in readings]).float() for n in names})

    def half(self) -> "Reading":
        """The same in half precision, to be kept."""
        return Reading(**{f.name: getattr(self, f.name).half() for f in fields(self)})

    def to(self, device: torch.device) -> "Reading":
        """The same on another device."""
        return Reading(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    def crop(self, row: int, column: int, side: int) -> "Reading":
        """A square of the grid; its place and side are multiples of 4."""
        parts = {}
        for name in (f.name for f in fields(self)):
            whole = getattr(self, name)
            top, left, extent = (v * whole.shape[-1] // self.logits.shape[-1] for v in (row, column, side))
            parts[name] = whole[..., top : top + extent, left : left + extent]
        return Reading(**parts)


class Refiner(nn.Module):
    """Redraws masks at twice the grid from features, pixels and the method's own masks.

    Convolutions of growing reach at the grid, then one at twice its side. The last layer starts at
    zero, so that an untrained network leaves masks as they are.

    Args:
        channels: of the fine, middle and coarse features.
        objects: K.
        width: channels of the hidden layers.
        grid: largest G, for `Reading.of`.
    """

    mean: Tensor
    deviation: Tensor
    largest: Tensor

    def __init__(self, channels: tuple[int, int, int], objects: int, width: int, grid: int) -> None:
        super().__init__()
        fine, middle, coarse = channels
        self.read_coarse = nn.Conv2d(coarse, width, 1)
        self.read_middle = nn.Conv2d(middle, _MIDDLE, 1)
        self.read_fine = nn.Conv2d(fine, _FINE, 1)
        self.join = nn.Conv2d(width + _MIDDLE + _FINE + 3 * 16 + 2 * objects, width, 1)
        self.look = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=reach, dilation=reach) for reach in (1, 2, 4)
        )
        self.enlarge = nn.Conv2d(width, 4 * (_LAST - 3), 1)
        self.draw = nn.Conv2d(_LAST + 9, _LAST, 3, padding=1)
        self.last = nn.Conv2d(_LAST, objects, 1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(torch.as_tensor(self.last.bias))
        self.trust = nn.Parameter(torch.ones(1))
        self.register_buffer("mean", torch.zeros(fine + middle + coarse + 1))
        self.register_buffer("deviation", torch.ones(fine + middle + coarse + 1))
        self.register_buffer("largest", torch.tensor(grid))

    @classmethod
    def for_frames(cls, reading: Reading, width: int, grid: int) -> "Refiner":
        """An untrained refiner for frames like the one read."""
        channels = (reading.fine.shape[1], reading.middle.shape[1], reading.coarse.shape[1])
        return cls(channels, reading.logits.shape[1], width, grid)

    @classmethod
    def restored(cls, tensors: dict[str, Tensor]) -> "Refiner":
        """A refiner from its state, ready to run.

        Raises:
            KeyError: the tensors are not those of a refiner.
            RuntimeError: they do not fit together.
        """
        fine, middle, coarse = (tensors[f"read_{n}.weight"].shape[1] for n in ("fine", "middle", "coarse"))
        objects, width = tensors["last.weight"].shape[0], tensors["join.weight"].shape[0]
        refiner = cls((fine, middle, coarse), objects, width, int(tensors["largest"]))
        refiner.load_state_dict(tensors)
        return refiner.eval().requires_grad_(False)

    def standardise(self, reading: Reading) -> None:
        """Take the mean and deviation of every feature channel, and of brightness, from some frames."""
        parts = (reading.fine, reading.middle, reading.coarse)
        flat = [p.transpose(0, 1).flatten(1) for p in parts] + [reading.pixels.flatten()[None]]
        self.mean.copy_(torch.cat([p.mean(dim=1) for p in flat]))
        self.deviation.copy_(torch.cat([p.std(dim=1) for p in flat]).clamp(min=1e-3))

    def forward(self, reading: Reading) -> Tensor:
        """Masks as logits ``(N, K, 2G, 2G)``."""
        sizes = [reading.fine.shape[1], reading.middle.shape[1], reading.coarse.shape[1], 1]
        scales = zip(self.mean.split(sizes), self.deviation.split(sizes), strict=True)
        parts = (reading.fine, reading.middle, reading.coarse, reading.pixels)
        fine, middle, coarse, pixels = (
            (part - mean[:, None, None]) / deviation[:, None, None]
            for part, (mean, deviation) in zip(parts, scales, strict=True)
        )
        side = reading.logits.shape[-1]
        seen = [
            _enlarged(self.read_coarse(coarse), side),
            _enlarged(self.read_middle(middle), side),
            self.read_fine(fine),
            F.pixel_unshuffle(pixels, 4),
            reading.logits / 4,
            reading.logits.sigmoid(),
        ]
        hidden = F.gelu(self.join(torch.cat(seen, dim=1)))
        for layer in self.look:
            hidden = hidden + F.gelu(layer(hidden))
        large = torch.cat([F.pixel_shuffle(self.enlarge(hidden), 2), F.pixel_unshuffle(pixels, 2)], dim=1)
        change = self.last(F.gelu(self.draw(large)))
        return self.trust * _enlarged(reading.logits, 2 * side) + change

    @torch.no_grad()
    def refined(self, features: Features, logits: Tensor) -> Tensor:
        """Masks of one frame redrawn: logits ``(K, 1, h, w)`` to ``(K, 1, 2G, 2G)``."""
        reading = Reading.of(features, logits, int(self.largest))
        return self(Reading.stacked([reading])).transpose(0, 1)


def _averaged(x: Tensor, side: int) -> Tensor:
    return x if x.shape[-1] == side else F.adaptive_avg_pool2d(x.float(), side)


def _enlarged(x: Tensor, side: int) -> Tensor:
    return F.interpolate(x, (side, side), mode="bilinear", align_corners=False)
