"""Augmentation of images with their labels: one draw for a whole sequence, so that it stays one."""

import math
import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """Ranges of a random change of appearance and shape; zeros leave everything as it is.

    Attributes:
        rotation: largest angle in degrees.
        scale: largest relative change of size.
        shear: largest shear angle in degrees.
        shift: largest displacement relative to the side.
        warp: standard deviation of a smooth displacement, relative to the side.
        brightness: largest additive change, of images in 0..1.
        contrast: largest relative change of contrast.
        gamma: largest relative change of the exponent.
        noise: largest standard deviation of white noise.
    """

    rotation: float = 10.0
    scale: float = 0.12
    shear: float = 5.0
    shift: float = 0.06
    warp: float = 0.015
    brightness: float = 0.1
    contrast: float = 0.2
    gamma: float = 0.25
    noise: float = 0.04

    def draw(self, pixels: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Change a sequence.

        Args:
            pixels: ``(T, C, S, S)`` in 0..1.
            labels: ``(T, L, L)`` integers.
            seed: decides the change, on every device alike.

        Returns:
            Pixels and labels of the same shapes.
        """
        source = random.Random(seed)
        where = self._grid(source, pixels.shape[-1]).to(pixels.device)
        frames = pixels.shape[0]
        moved = F.grid_sample(
            pixels, where.expand(frames, -1, -1, -1), padding_mode="border", align_corners=False
        )
        if labels.shape[-1] != pixels.shape[-1]:
            where = self._grid(random.Random(seed), labels.shape[-1]).to(pixels.device)
        index = F.grid_sample(
            labels.unsqueeze(1).float(),
            where.expand(frames, -1, -1, -1),
            mode="nearest",
            padding_mode="zeros",
            align_corners=False,
        )
        return self._recolour(moved, source), index[:, 0].round().to(labels.dtype)

    def moved(self, maps: Tensor, seed: int) -> Tensor:
        """Move maps ``(T, K, h, w)`` of any size as `draw` moves pixels by the same seed."""
        where = self._grid(random.Random(seed), maps.shape[-1]).to(maps.device)
        frames = maps.shape[0]
        return F.grid_sample(
            maps, where.expand(frames, -1, -1, -1), padding_mode="border", align_corners=False
        )

    def _grid(self, source: random.Random, side: int) -> Tensor:
        """Sampling positions ``(1, S, S, 2)`` of an affine change plus a smooth displacement."""
        angle = math.radians(source.uniform(-self.rotation, self.rotation))
        shear = math.tan(math.radians(source.uniform(-self.shear, self.shear)))
        zoom = [1 + source.uniform(-self.scale, self.scale) for _ in range(2)]
        cos, sin = math.cos(angle), math.sin(angle)
        matrix = [
            [cos * zoom[0], (-sin + shear) * zoom[0], 2 * source.uniform(-self.shift, self.shift)],
            [sin * zoom[1], cos * zoom[1], 2 * source.uniform(-self.shift, self.shift)],
        ]
        affine = F.affine_grid(torch.tensor([matrix]), [1, 1, side, side], align_corners=False)
        if self.warp == 0:
            return affine
        coarse = torch.tensor([[source.gauss(0, 2 * self.warp) for _ in range(25)] for _ in range(2)])
        smooth = F.interpolate(coarse.view(1, 2, 5, 5), (side, side), mode="bicubic", align_corners=True)
        return affine + smooth.permute(0, 2, 3, 1)

    def _recolour(self, pixels: Tensor, source: random.Random) -> Tensor:
        contrast = 1 + source.uniform(-self.contrast, self.contrast)
        exponent = 1 + source.uniform(-self.gamma, self.gamma)
        mean = pixels.mean()
        changed = (pixels - mean) * contrast + mean + source.uniform(-self.brightness, self.brightness)
        changed = changed.clamp(0, 1) ** exponent
        generator = torch.Generator().manual_seed(source.getrandbits(32))
        noise = torch.randn(pixels[:, :1].shape, generator=generator).to(pixels.device)
        return (changed + source.uniform(0, self.noise) * noise).clamp(0, 1)


STRONG = Augmentation(rotation=15, scale=0.2, shear=8, shift=0.1, warp=0.02)
VARIED = Augmentation(  # for networks from scratch on a few cases; about the ranges of nnU-Net (Isensee 2021)
    rotation=15,
    scale=0.25,
    shift=0.1,
    warp=0.02,
    brightness=0.15,
    contrast=0.3,
    gamma=0.35,
    noise=0.06,
)
UNCHANGED = Augmentation(
    rotation=0, scale=0, shear=0, shift=0, warp=0, brightness=0, contrast=0, gamma=0, noise=0
)
