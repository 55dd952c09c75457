"""A 2D U-Net trained from scratch on the slices of the support."""

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.networks.nets import UNet
from torch import Tensor

from unprompted.engine.frames import support_frames, to_frames
from unprompted.geometry import reordering_between
from unprompted.images import LabelMap, Volume
from unprompted.intensity import Intensity
from unprompted.loading import resolve_device
from unprompted.methods.base import SupportFrames
from unprompted.peers.base import Cases, Progress, TrainedPeer, label_map
from unprompted.peers.training import Budget, train
from unprompted.segmenter import common_axis
from unprompted.support import SupportSet
from unprompted.training.augment import VARIED

_SMALLEST, _LARGEST, _STEP = 96, 256, 32  # pixels
_BY_CLASS = 0.67  # share of slices drawn so that they show a class, all classes alike


@dataclass(frozen=True)
class UNet2D:
    """MONAI's residual U-Net; slices scaled and resized as for our own methods, then augmented.

    Attributes:
        minutes: longest training.
        steps: longest training.
        side: of the square input in pixels; 0 takes the longer side of the support, 96 to 256.
        batch: slices a step; 0 takes 8, or 4 of inputs above 128 pixels.
        learning_rate: the highest, of AdamW.
        device: "auto", "cpu" or "cuda".
    """

    minutes: float = 5.0
    steps: int = 3000
    side: int = 0
    batch: int = 0
    learning_rate: float = 1e-3
    device: str = "auto"

    def fit(self, cases: Cases, classes: dict[int, str], seed: int, progress: Progress) -> TrainedPeer:
        """Train on every labelled slice."""
        axis = common_axis([volume for volume, _ in cases])
        sliced = [(v.sliced_along(axis), m if v.axis == "t" else m.sliced_along(axis)) for v, m in cases]
        support = SupportSet.from_cases(sliced, classes)
        intensity = Intensity.decide(support)
        side = self.side or _side(support)
        batch = self.batch or (8 if side <= 128 else 4)
        torch.manual_seed(seed)
        network = UNet(
            spatial_dims=2,
            in_channels=3,  # as our methods get them: one channel three times, or colours
            out_channels=len(classes) + 1,
            channels=(16, 32, 64, 128, 256),
            strides=(2, 2, 2, 2),
            num_res_units=2,
            norm="instance",
        ).to(resolve_device(self.device))
        frames, source = support_frames(support, intensity, side), random.Random(seed)
        shows = frames.shows()
        about: dict[str, Any] = {"side": side, "batch": batch}
        about |= train(
            network,
            lambda: _drawn(frames, shows, batch, source),
            Budget(self.minutes, self.steps),
            self.learning_rate,
            progress,
        )

        @torch.no_grad()
        def segment(volume: Volume) -> LabelMap:
            turned = volume.sliced_along(axis)
            scaled = intensity.apply(turned.whole)
            numbers = np.zeros(turned.grid.shape, np.int64)
            device = next(network.parameters()).device
            for first in range(0, len(scaled), batch):
                part = slice(first, first + batch)
                logits = network(to_frames(scaled[part], side).to(device))
                logits = F.interpolate(logits, turned.grid.shape[1:], mode="bilinear", align_corners=False)
                numbers[part] = logits.argmax(dim=1).cpu().numpy()
            return label_map(reordering_between(turned.grid, volume.grid).apply(numbers), volume, classes)

        return TrainedPeer(segment, about)


def _side(support: SupportSet) -> int:
    longest = max(max(example.labels.shape) for example in support.examples)
    return min(max(-(-longest // _STEP) * _STEP, _SMALLEST), _LARGEST)


def _drawn(support: SupportFrames, shows: Tensor, batch: int, source: random.Random) -> tuple[Tensor, Tensor]:
    """One batch ``(B, 3, S, S)`` and its labels ``(B, 1, S, S)``, every slice augmented on its own."""
    slices = []
    for _ in range(batch):
        if source.random() < _BY_CLASS:
            shown = shows[:, source.randrange(shows.shape[1])]
            frame = source.choice(shown.nonzero()[:, 0].tolist())
        else:
            frame = source.randrange(len(shows))
        drawn = VARIED.draw(support.pixels[[frame]], support.labels[[frame]], source.getrandbits(32))
        slices.append(drawn)
    return torch.cat([p for p, _ in slices]), torch.stack([m for _, m in slices])
