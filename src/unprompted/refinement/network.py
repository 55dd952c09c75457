"""The network that redraws masks: a small U-Net that reads masks beside the pixels.

Letters in shapes: N frames, K objects, P side of the square that is worked on.
"""

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unprompted.refinement.reading import CHANNELS, SURE, Reading

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
    """A U-Net (Ronneberger 2015) from pixels and place, with masks joined at their stride.

    Args:
        objects: K.
        width: channels at P/2, a multiple of 16; coarser levels have up to four times as many.
        side: P.
    """

    mean: Tensor
    deviation: Tensor
    side: Tensor
    trust: Tensor

    def __init__(self, objects: int, width: int, side: int) -> None:
        super().__init__()
        widths = [width, 3 * width // 2, 3 * width, 4 * width, 4 * width]
        joined = [2 * objects, 0, 0, 0]
        self.stem = nn.Conv2d(4 * (CHANNELS + 2), width, 1)
        self.begin = Block(width, width)
        pairs = list(itertools.pairwise(widths))
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairs)
        self.encode = nn.ModuleList(Block(b + j, b) for (_, b), j in zip(pairs, joined, strict=True))
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairs)
        self.decode = nn.ModuleList(Block(2 * a, a) for a, _ in pairs)
        self.last = nn.Conv2d(width, 4 * objects, 1)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("deviation", torch.ones(()))
        self.register_buffer("side", torch.tensor(side))
        self.register_buffer("trust", torch.ones(objects))

    @classmethod
    def for_frames(cls, reading: Reading, width: int) -> "Refiner":
        """An untrained refiner for frames like the one read."""
        return cls(reading.logits.shape[1], width, reading.pixels.shape[-1])

    @classmethod
    def restored(cls, tensors: dict[str, Tensor]) -> "Refiner":
        """A refiner from its state, ready to run.

        Raises:
            KeyError: the tensors are not those of a refiner.
            RuntimeError: they do not fit together.
        """
        objects, width = tensors["last.weight"].shape[0] // 4, tensors["stem.weight"].shape[0]
        refiner = cls(objects, width, int(tensors["side"]))
        refiner.load_state_dict(tensors)
        return refiner.eval().requires_grad_(False)

    def standardise(self, reading: Reading) -> None:
        """Take the mean and deviation of brightness from some frames."""
        self.mean.copy_(reading.pixels.mean())
        self.deviation.copy_(reading.pixels.std().clamp(min=1e-3))

    def forward(self, reading: Reading, place: Tensor, aided: Tensor) -> Tensor:
        """Masks as logits ``(N, K, P, P)``, background at 0.

        Args:
            reading: of whole frames or crops.
            place: rows and columns of its pixels, ``(N or 1, 2, P, P)`` in -1..1.
            aided: frames that may use masks, ``(N,)`` bool.
        """
        pixels = (reading.pixels - self.mean) / self.deviation
        logits = reading.logits.masked_fill(~aided[:, None, None, None], -SURE / 2)
        seen = torch.cat([pixels, place.expand(len(pixels), -1, -1, -1)], dim=1)
        hidden = self.begin(self.stem(F.pixel_unshuffle(seen, 2)))
        kept = []
        for level in range(_LEVELS):
            kept.append(hidden)
            beside = [logits / 4, logits.sigmoid()] if level == 0 else []
            hidden = self.encode[level](torch.cat([self.down[level](hidden), *beside], dim=1))
        for level in reversed(range(_LEVELS)):
            above = F.interpolate(
                self.up[level](hidden), scale_factor=2, mode="bilinear", align_corners=False
            )
            hidden = self.decode[level](torch.cat([above, kept[level]], dim=1))
        return F.pixel_shuffle(self.last(hidden), 2)

    @torch.no_grad()
    def drawn(self, reading: Reading) -> Tensor:
        """Masks of whole frames as logits ``(N, K, P, P)``: mean chances with and without masks beside."""
        device = reading.pixels.device
        place = places(int(self.side), device)
        count = len(reading.pixels)
        aided, alone = (
            _chances(self(reading, place, torch.full((count,), told, device=device)))
            for told in (True, False)
        )
        ground, *chances = ((aided + alone) / 2).log().split(1, dim=1)
        return torch.cat(chances, dim=1) - ground

    def refined(self, pixels: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Masks of one frame redrawn, with their quality.

        Logits ``(K, 1, h, w)`` become ``(K, 1, P, P)``, and there is a quality ``(K,)`` of these. It is the
        IoU to expect, lowered by `trust`: what IoU was in cases left out, as a share of what was to be
        expected there.
        """
        drawn = self.drawn(Reading.of(pixels, logits, int(self.side))).transpose(0, 1)
        inside, union = expected_overlap(drawn)
        return drawn, self.trust * inside / union


def expected_overlap(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels of intersection and of union with the truth to expect of masks, ``(K,)``, if chances are right.

    Of a mask M and chances p: the sum of p in M, and the size of M plus the sum of p outside of it.

    Args:
        logits: ``(K, 1, h, w)`` of classes that exclude each other, background at 0.
    """
    chance = _chances(logits.transpose(0, 1))[0]
    numbers = torch.arange(1, len(chance), device=chance.device)[:, None, None]
    mask = chance.argmax(dim=0) == numbers
    chance = chance[1:]
    inside = (chance * mask).sum(dim=(1, 2))
    return inside, mask.sum(dim=(1, 2)) + (chance * ~mask).sum(dim=(1, 2))


def places(side: int, device: torch.device) -> Tensor:
    """Rows and columns of a whole frame, ``(1, 2, side, side)`` in -1..1."""
    line = torch.linspace(-1, 1, side, device=device)
    return torch.stack(torch.meshgrid(line, line, indexing="ij"))[None]


def _chances(logits: Tensor) -> Tensor:
    """Chances of background and classes, ``(N, K + 1, P, P)``, none of them 0."""
    return torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1).softmax(dim=1).clamp(min=1e-6)
