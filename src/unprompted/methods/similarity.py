"""How alike frames are: one score for each of many candidates, higher is more alike.

A measure turns a frame into one flat descriptor, so that every candidate is described once, and comparing
a query with all of them is one batched computation. A building block shared by methods.
"""

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from unprompted.backbones.base import Features, MemoryEntry
from unprompted.errors import UsageError, WeightsUnavailable
from unprompted.methods.support_memory import SupportMemory, cosine
from unprompted.prediction import Chosen

Measure = Literal["perceptual", "l1", "cosine", "ssim", "psnr", "lpips"]
_PIXEL_SIDE, _LPIPS_SIDE = 128, 256  # sides at which frames are compared
_WINDOW = 7  # of SSIM, in pixels
_BRIGHTNESS_FLOOR, _CONTRAST_FLOOR = 0.01**2, 0.03**2  # C1 and C2 of SSIM for values in 0..1


class Similarity(Protocol):
    """A measure of how alike two frames are."""

    def describe(self, features: Features) -> Tensor:
        """Descriptor of one frame, ``(D,)``."""
        ...

    def scores(self, query: Tensor, candidates: Tensor) -> Tensor:
        """One score a candidate, ``(n,)``, from descriptors ``(D,)`` and ``(n, D)``."""
        ...


@dataclass(frozen=True)
class Perceptual:
    """Minus the perceptual distance over encoder levels (Zhang et al. 2018, eq. 1, unit weights).

    ``d(a, b) = sum_l 1/(H_l W_l) sum_hw |a_lhw - b_lhw|^2``, channels of each position at unit length.

    Attributes:
        grid: side to which finer levels are averaged first; 0 keeps them whole.
    """

    grid: int

    def describe(self, features: Features) -> Tensor:
        """Unit-length channels over the square root of the number of positions."""
        levels = (F.normalize(level, dim=1) for level in _levels(features, self.grid))
        return torch.cat([(u / u[0, 0].numel() ** 0.5).flatten() for u in levels])

    def scores(self, query: Tensor, candidates: Tensor) -> Tensor:
        """Minus the squared distance, always 0 or below."""
        return -_distances(query, candidates, 2).square()


@dataclass(frozen=True)
class LevelL1:
    """Minus the L1 distance of encoder levels, as FATE-SAM's released code computes it.

    ``d(a, b) = 1/3 sum_l 1/(H_l W_l) sum_chw |a_lchw - b_lchw|``.

    Attributes:
        grid: side to which finer levels are averaged first; 0 keeps them whole.
    """

    grid: int

    def describe(self, features: Features) -> Tensor:
        """Features over the number of positions and levels."""
        levels = _levels(features, self.grid)
        return torch.cat([(level / (level[0, 0].numel() * len(levels))).flatten() for level in levels])

    def scores(self, query: Tensor, candidates: Tensor) -> Tensor:
        """Minus the distance, always 0 or below."""
        return -_distances(query, candidates, 1)


class PooledCosine:
    """Cosine of pooled coarsest features, the mean of the candidates removed."""

    def describe(self, features: Features) -> Tensor:
        """The coarsest level averaged over positions."""
        return features.pooled.float()

    def scores(self, query: Tensor, candidates: Tensor) -> Tensor:
        """Cosines in -1..1."""
        return cosine(query[None], candidates)[0]


class StructuralSimilarity:
    """SSIM (Wang et al. 2004, eq. 13) of grey frames of 128 pixels, over windows of 7 x 7."""

    def describe(self, features: Features) -> Tensor:
        """Pixels, their local means and their local variances, ``(3 * 128 * 128,)``."""
        grey = _grey(features)
        mean = _local_mean(grey)
        return torch.cat([grey, mean, _local_mean(grey.square()) - mean.square()]).flatten()

    def scores(self, query: Tensor, candidates: Tensor) -> Tensor:
        """Mean SSIM in -1..1."""
        side = _PIXEL_SIDE
        x, mean_x, var_x = query.view(1, 3, 1, side, side).unbind(dim=1)
        y, mean_y, var_y = candidates.view(-1, 3, 1, side, side).unbind(dim=1)
        product = mean_x * mean_y
        shared = _local_mean(x * y) - product
        brightness = (2 * product + _BRIGHTNESS_FLOOR) / (
            mean_x.square() + mean_y.square() + _BRIGHTNESS_FLOOR
        )
        structure = (2 * shared + _CONTRAST_FLOOR) / (var_x + var_y + _CONTRAST_FLOOR)
        return (brightness * structure).flatten(1).mean(dim=1)


class PeakSignal:
    """PSNR in dB of grey frames of 128 pixels with values in 0..1."""

    def describe(self, features: Features) -> Tensor:
        """Pixels, ``(128 * 128,)``."""
        return _grey(features).flatten()

    def scores(self, query: Tensor, candidates: Tensor) -> Tensor:
        """``-10 log10 MSE``; equal frames reach 120 dB."""
        error = (candidates - query).square().mean(dim=1)
        return -10 * error.clamp(min=1e-12).log10()


class Lpips:
    """Minus LPIPS (Zhang et al. 2018) on AlexNet at 256 pixels, from the package ``lpips``.

    LPIPS weighs the squared difference of unit-length channels by ``w_c``; with ``sqrt(w_c)`` inside the
    descriptor it is a squared distance, so that the network sees every frame once.
    """

    def describe(self, features: Features) -> Tensor:
        """Weighted unit-length channels over the square root of the number of positions."""
        pixels = _resized(_pixels(features), _LPIPS_SIDE)
        net = _lpips_net(str(pixels.device))
        parts = []
        for level, line in zip(net.net(net.scaling_layer(2 * pixels - 1)), net.lins, strict=True):
            weight = line.model[-1].weight.clamp(min=0).sqrt()
            unit = weight * F.normalize(level, dim=1, eps=1e-10)
            parts.append((unit / unit[0, 0].numel() ** 0.5).flatten())
        return torch.cat(parts)

    def scores(self, query: Tensor, candidates: Tensor) -> Tensor:
        """Minus the distance, always 0 or below."""
        return -_distances(query, candidates, 2).square()


def similarity(measure: Measure, grid: int = 0) -> Similarity:
    """A measure by name.

    Args:
        measure: its name.
        grid: for those over encoder levels, the side to which levels are averaged; 0 keeps them whole.

    Raises:
        UsageError: no measure has this name, the grid is negative, or a package is missing.
    """
    if grid < 0:
        raise UsageError(f"grid is {grid}; give a side of 1 or more, or 0 to keep the levels whole")
    if measure == "lpips" and find_spec("lpips") is None:
        raise UsageError(
            "similarity lpips needs a package that is not installed: pip install lpips; or use perceptual"
        )
    measures: dict[str, Similarity] = {
        "perceptual": Perceptual(grid),
        "l1": LevelL1(grid),
        "cosine": PooledCosine(),
        "ssim": StructuralSimilarity(),
        "psnr": PeakSignal(),
        "lpips": Lpips(),
    }
    if measure not in measures:
        raise UsageError(f"similarity is {measure!r}; use {', '.join(measures)}")
    return measures[measure]


def matched(
    memory: SupportMemory, measure: Similarity, features: Features, count: int
) -> tuple[tuple[MemoryEntry, ...], tuple[Chosen, ...]]:
    """The support most like a frame: `count` entries over all objects, and what they are."""
    scores = measure.scores(measure.describe(features), memory.described)
    wanted = memory.most_similar(scores, count)
    return memory.compose(wanted), memory.chosen(wanted, scores)


def _distances(query: Tensor, candidates: Tensor, power: float) -> Tensor:
    """Distances ``(n,)``, by differences: products would round those of near-equal frames away."""
    exact = "donot_use_mm_for_euclid_dist"
    return torch.cdist(query[None], candidates, p=power, compute_mode=exact)[0]


def _levels(features: Features, grid: int) -> list[Tensor]:
    """The encoder levels, ``(1, C, h, w)`` each, with sides of at most `grid`."""
    return [
        F.adaptive_avg_pool2d(level.float(), grid) if 0 < grid < level.shape[-1] else level.float()
        for level in features.levels
    ]


def _pixels(features: Features) -> Tensor:
    if features.pixels is None:
        raise UsageError("this backbone keeps no pixels to compare; use similarity perceptual, l1 or cosine")
    return features.pixels.float()


def _resized(pixels: Tensor, side: int) -> Tensor:
    if pixels.shape[-1] == side:
        return pixels
    return F.interpolate(pixels, (side, side), mode="bilinear", align_corners=False, antialias=True)


def _grey(features: Features) -> Tensor:
    """The frame as ``(1, 1, 128, 128)``."""
    return _resized(_pixels(features).mean(dim=1, keepdim=True), _PIXEL_SIDE)


def _local_mean(pixels: Tensor) -> Tensor:
    return F.avg_pool2d(pixels, _WINDOW, 1, _WINDOW // 2, count_include_pad=False)


@cache
def _lpips_net(device: str) -> Any:
    """The network of LPIPS; its AlexNet must be in torch's cache, nothing is downloaded here."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if not any(folder.glob("alexnet-*.pth")):
        raise WeightsUnavailable(
            f"similarity lpips needs torchvision's AlexNet in {folder}; fetch it once with "
            "`python -c \"import lpips; lpips.LPIPS(net='alex')\"`, or use perceptual"
        )
    import lpips

    return lpips.LPIPS(net="alex", verbose=False).eval().requires_grad_(False).to(device)
