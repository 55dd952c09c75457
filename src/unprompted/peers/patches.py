"""What the 3D networks share: volumes at one voxel size, random patches, sliding windows."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from monai.inferers import sliding_window_inference
from monai.transforms import (
    Compose,
    RandAdjustContrastd,
    RandAffined,
    RandCropByLabelClassesd,
    RandGaussianNoised,
    SpatialPadd,
)
from monai.utils import convert_to_tensor
from torch import Tensor, nn

from unprompted.errors import UsageError
from unprompted.images import LabelMap, Volume
from unprompted.intensity import Intensity
from unprompted.loading import resolve_device
from unprompted.peers.base import Cases, Progress, TrainedPeer, label_map, only_classes
from unprompted.peers.training import Budget, train
from unprompted.support import SupportSet

_STEP = 32  # voxels: what SwinUNETR's patch divides by; U-Net's too
_AFFINE = {"rotate_range": (0.17, 0.1, 0.1), "scale_range": (0.12, 0.12, 0.12)}  # radians, relative
Shape = tuple[int, int, int]
Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class PatchTraining(ABC):
    """A 3D network and how it is trained.

    Attributes:
        minutes: longest training.
        steps: longest training.
        longest: voxels of the longest side of a case at the size the network works at.
        patch: largest patch side in voxels, a multiple of 32.
        batch: patches a step.
        learning_rate: the highest, of AdamW.
        device: "auto", "cpu" or "cuda".
    """

    minutes: float = 5.0
    steps: int = 3000
    longest: int = 160
    patch: int = 96
    batch: int = 2
    learning_rate: float = 1e-3
    device: str = "auto"

    smallest: ClassVar[int] = _STEP  # rows and columns of a patch at least; smaller cases are padded

    @abstractmethod
    def network(self, channels: int, outputs: int) -> nn.Module:
        """The network for so many input channels and outputs."""

    def fit(self, cases: Cases, classes: dict[int, str], seed: int, progress: Progress) -> TrainedPeer:
        """Train on the support volumes.

        Raises:
            UsageError: the support holds pictures or videos rather than volumes.
        """
        return _trained(self, cases, classes, seed, progress)


def _trained(
    how: PatchTraining, cases: Cases, classes: dict[int, str], seed: int, progress: Progress
) -> TrainedPeer:
    flat = [volume.name for volume, _ in cases if volume.axis == "t" or min(volume.grid.shape) == 1]
    if flat:
        raise UsageError(f"a 3D network takes volumes, and {', '.join(flat)} is none; leave it out here")
    intensity = Intensity.decide(SupportSet.from_cases(cases, classes))
    spacing = _spacing(cases, how.longest)
    items = [_item(volume, labels, classes, intensity, spacing) for volume, labels in cases]
    patch = _patch([item["image"].shape[1:] for item in items], how.patch, how.smallest)
    budget = Budget(how.minutes, how.steps)
    torch.manual_seed(seed)
    network = how.network(int(items[0]["image"].shape[0]), len(classes) + 1).to(resolve_device(how.device))
    draw = _drawer(items, patch, len(classes) + 1, how.batch, seed)
    about: dict[str, Any] = {"spacing": [round(s, 3) for s in spacing], "patch": list(patch)}
    about |= train(network, draw, budget, how.learning_rate, progress)

    @torch.no_grad()
    def segment(volume: Volume) -> LabelMap:
        image = _resized(_scaled(volume, intensity), volume, spacing)
        device = next(network.parameters()).device
        logits: Any = sliding_window_inference(image[None].to(device), patch, 1, network, overlap=0.5)
        logits = F.interpolate(logits, volume.grid.shape, mode="trilinear", align_corners=False)
        return label_map(logits[0].argmax(dim=0).cpu().numpy(), volume, classes)

    return TrainedPeer(segment, about)


def _spacing(cases: Cases, longest: int) -> Spacing:
    """Median voxel size of the support, coarser in the plane where a case would be too large."""
    median = np.median([volume.grid.spacing for volume, _ in cases], axis=0)
    extents = [np.multiply(volume.grid.shape, volume.grid.spacing) for volume, _ in cases]
    least = np.max(extents, axis=0) / longest
    d, h, w = np.maximum(median, least)
    return float(d), float(h), float(w)


def _scaled(volume: Volume, intensity: Intensity) -> Tensor:
    """``(C, D, H, W)`` in 0..1."""
    scaled = torch.from_numpy(intensity.apply(volume.whole))
    return scaled.permute(3, 0, 1, 2) if volume.is_rgb else scaled[None]


def _resized(image: Tensor, volume: Volume, spacing: Spacing, nearest: bool = False) -> Tensor:
    sides = zip(volume.grid.shape, volume.grid.spacing, spacing, strict=True)
    size = [max(1, round(voxels * old / new)) for voxels, old, new in sides]
    if nearest:
        return F.interpolate(image[None].float(), size, mode="nearest-exact")[0]
    return F.interpolate(image[None], size, mode="trilinear", align_corners=False)[0]


def _item(
    volume: Volume,
    labels: LabelMap,
    classes: dict[int, str],
    intensity: Intensity,
    spacing: Spacing,
) -> dict[str, Tensor]:
    numbers = torch.from_numpy(only_classes(labels.labels, classes))[None]
    return {
        "image": _resized(_scaled(volume, intensity), volume, spacing),
        "label": _resized(numbers, volume, spacing, nearest=True),
    }


def _patch(shapes: list[Any], largest: int, smallest: int) -> Shape:
    """Sides that a network can halve five times, no larger than the cases need."""
    sides = [min(largest, -(-int(max(axis)) // _STEP) * _STEP) for axis in zip(*shapes, strict=True)]
    return sides[0], max(sides[1], smallest), max(sides[2], smallest)


def _drawer(
    items: list[dict[str, Tensor]], patch: Shape, outputs: int, batch: int, seed: int
) -> Callable[[], tuple[Tensor, Tensor]]:
    keys = ("image", "label")
    change = Compose(
        [
            SpatialPadd(keys, patch),
            RandCropByLabelClassesd(keys, "label", patch, num_classes=outputs, num_samples=1),
            RandAffined(keys, prob=0.7, mode=("bilinear", "nearest"), padding_mode="border", **_AFFINE),
            RandAdjustContrastd("image", prob=0.5, gamma=(0.75, 1.35)),
            RandGaussianNoised("image", prob=0.3, std=0.04),
        ]
    )
    change.set_random_state(seed)
    source = np.random.default_rng(seed)

    def draw() -> tuple[Tensor, Tensor]:
        drawn: list[Any] = []
        for _ in range(batch):
            found: Any = change(dict(items[source.integers(len(items))]))
            drawn.append(found[0] if isinstance(found, list) else found)
        pairs = [torch.stack([convert_to_tensor(one[key]) for one in drawn]) for key in keys]
        return pairs[0], pairs[1]

    return draw
