"""The network that redraws masks: a small U-Net that reads masks and features beside the pixels.

Letters in shapes: N frames, K objects, P side of the square that is worked on.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unprompted.backbones.base import Features
from unprompted.refinement.reading import CHANNELS, SURE, Reading

_READ = (16, 32, 48)  # channels that are read of the fine, middle and coarse features
_GROUPS = 8
_LEVELS = 4  # each at half the side of the one before


class Block(nn.Module):
    """Two 3x3 convolutions with group normalisation, and a way around them (ResNet, He 2016)."""

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(entering, leaving, 3, padding=1, bias=False)
        self.first_norm = nn.GroupNorm(_GROUPS, leaving)
        self.second = nn.Conv2d(leaving, leaving, 3, padding=1, bias=False)
        self.second_norm = nn.GroupNorm(_GROUPS, leaving)
        self.around = nn.Conv2d(entering, leaving, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, entering, h, w)`` to ``(N, leaving, h, w)``."""
        hidden = F.gelu(self.first_norm(self.first(x)))
        return F.gelu(self.second_norm(self.second(hidden)) + self.around(x))


class Refiner(nn.Module):
    """A U-Net (Ronneberger 2015) from pixels and place, with masks and features joined at their strides.

    Args:
        channels: of the fine, middle and coarse features.
        objects: K.
        width: channels at P/2, a multiple of 16; coarser levels have up to four times as many.
        side: P.
    """

    mean: Tensor
    deviation: Tensor
    side: Tensor
    aid: Tensor

    def __init__(self, channels: tuple[int, int, int], objects: int, width: int, side: int) -> None:
        super().__init__()
        widths = [width, 3 * width // 2, 3 * width, 4 * width, 4 * width]
        joined = [_READ[0] + 2 * objects, *_READ[1:], 0]
        self.read = nn.ModuleList(nn.Conv2d(c, r, 1) for c, r in zip(channels, _READ, strict=True))
        self.stem = nn.Conv2d(4 * (CHANNELS + 2), width, 1)
        self.begin = Block(width, width)
        pairs = list(itertools.pairwise(widths))
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairs)
        self.encode = nn.ModuleList(Block(b + j, b) for (_, b), j in zip(pairs, joined, strict=True))
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairs)
        self.decode = nn.ModuleList(Block(2 * a, a) for a, _ in pairs)
        self.last = nn.Conv2d(width, 4 * objects, 1)
        scaled = sum(channels) + 1
        self.register_buffer("mean", torch.zeros(scaled))
        self.register_buffer("deviation", torch.ones(scaled))
        self.register_buffer("side", torch.tensor(side))
        self.register_buffer("aid", torch.tensor(1.0))

    @classmethod
    def for_frames(cls, reading: Reading, width: int) -> "Refiner":
        """An untrained refiner for frames like the one read."""
        channels = (reading.fine.shape[1], reading.middle.shape[1], reading.coarse.shape[1])
        return cls(channels, reading.logits.shape[1], width, reading.pixels.shape[-1])

    @classmethod
    def restored(cls, tensors: dict[str, Tensor]) -> "Refiner":
        """A refiner from its state, ready to run.

        Raises:
            KeyError: the tensors are not those of a refiner.
            RuntimeError: they do not fit together.
        """
        fine, middle, coarse = (tensors[f"read.{n}.weight"].shape[1] for n in range(3))
        objects, width = tensors["last.weight"].shape[0] // 4, tensors["stem.weight"].shape[0]
        refiner = cls((fine, middle, coarse), objects, width, int(tensors["side"]))
        refiner.load_state_dict(tensors)
        return refiner.eval().requires_grad_(False)

    def standardise(self, reading: Reading) -> None:
        """Take the mean and deviation of every feature channel, and of brightness, from some frames."""
        parts = (reading.fine, reading.middle, reading.coarse)
        flat = [p.transpose(0, 1).flatten(1) for p in parts] + [reading.pixels.flatten()[None]]
        self.mean.copy_(torch.cat([p.mean(dim=1) for p in flat]))
        self.deviation.copy_(torch.cat([p.std(dim=1) for p in flat]).clamp(min=1e-3))

    def forward(self, reading: Reading, place: Tensor, aided: Tensor | None = None) -> Tensor:
        """Masks as logits ``(N, K, P, P)``, background at 0.

        Args:
            reading: of whole frames or crops.
            place: rows and columns of its pixels, ``(N or 1, 2, P, P)`` in -1..1.
            aided: frames that may use masks and features, ``(N,)`` bool; None for all.
        """
        sizes = [reading.fine.shape[1], reading.middle.shape[1], reading.coarse.shape[1], 1]
        scales = zip(self.mean.split(sizes), self.deviation.split(sizes), strict=True)
        parts = (reading.fine, reading.middle, reading.coarse, reading.pixels)
        *features, pixels = (
            (part - mean[:, None, None]) / deviation[:, None, None]
            for part, (mean, deviation) in zip(parts, scales, strict=True)
        )
        logits = reading.logits
        if aided is not None:
            shut = ~aided[:, None, None, None]
            features = [f.masked_fill(shut, 0.0) for f in features]
            logits = logits.masked_fill(shut, -SURE / 2)
        joined = [[read(f)] for read, f in zip(self.read, features, strict=True)]
        joined[0] += [logits / 4, logits.sigmoid()]
        seen = torch.cat([pixels, place.expand(len(pixels), -1, -1, -1)], dim=1)
        hidden = self.begin(self.stem(F.pixel_unshuffle(seen, 2)))
        kept = []
        for level in range(_LEVELS):
            kept.append(hidden)
            beside = joined[level] if level < len(joined) else []
            hidden = self.encode[level](torch.cat([self.down[level](hidden), *beside], dim=1))
        for level in reversed(range(_LEVELS)):
            above = F.interpolate(
                self.up[level](hidden), scale_factor=2, mode="bilinear", align_corners=False
            )
            hidden = self.decode[level](torch.cat([above, kept[level]], dim=1))
        return F.pixel_shuffle(self.last(hidden), 2)

    @torch.no_grad()
    def drawn(self, reading: Reading) -> Tensor:
        """Masks of whole frames as logits ``(N, K, P, P)``.

        `aid` is what masks and features count: 1 draws with them, 0 without, and in between chances are
        the mean of what is drawn with and without them, weighed so.
        """
        aid = float(self.aid)
        if aid in (0.0, 1.0):
            return self._whole(reading, aided=aid == 1.0)
        aided, alone = (_chances(self._whole(reading, told)) for told in (True, False))
        ground, *chances = alone.lerp(aided, aid).log().split(1, dim=1)
        return torch.cat(chances, dim=1) - ground

    def _whole(self, reading: Reading, aided: bool) -> Tensor:
        """Masks of whole frames as logits, with masks and features or without."""
        device = reading.pixels.device
        told = torch.full((len(reading.pixels),), aided, device=device)
        return self(reading, places(int(self.side), device), told)

    def refined(self, features: Features, pixels: Tensor, logits: Tensor) -> Tensor:
        """Masks of one frame redrawn: logits ``(K, 1, h, w)`` to ``(K, 1, P, P)``."""
        reading = Reading.of(features, pixels, logits, int(self.side))
        return self.drawn(Reading.stacked([reading])).transpose(0, 1)


def places(side: int, device: torch.device) -> Tensor:
    """Rows and columns of a whole frame, ``(1, 2, side, side)`` in -1..1."""
    line = torch.linspace(-1, 1, side, device=device)
    return torch.stack(torch.meshgrid(line, line, indexing="ij"))[None]


def _chances(logits: Tensor) -> Tensor:
    """Chances of background and classes, ``(N, K + 1, P, P)``, none of them 0."""
    return torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1).softmax(dim=1).clamp(min=1e-6)
