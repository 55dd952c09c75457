"""A backbone and a method whose masks can be told by eye: an object is what is bright."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import torch

from unprompted.backbones.base import Features, MemoryBank
from unprompted.methods.base import Step


class SeeingBackbone:
    """Its features are the frame itself."""

    name, input_size, channels, memory_width, digest = "seeing", 64, 3, 1, "0" * 64
    device, memory_pool = torch.device("cpu"), 1

    def encode(self, frames):
        return [Features((frame, frame, frame), frame) for frame in frames.split(1)]


@dataclass(frozen=True)
class Threshold:
    """Object 1 is what is brighter than one half in the chosen channel; quality is its share of the frame.

    What it learns is the mean of the support, what it prepares is the support and what it learned.
    """

    channel: int = 1

    paper: ClassVar[str] = "none"
    needs_training: ClassVar[bool] = True
    looks_ahead: ClassVar[bool] = True

    def train(self, backbone, support, seed, progress):
        return {"mean": support.pixels.mean().reshape(1)}

    def prepare(self, backbone, support, learned):
        return SimpleNamespace(support=support, learned=learned)

    def start(self, fitted, pooled):
        return 0

    def begin(self, fitted, pooled, start):
        return None, MemoryBank()

    def step(self, backbone, state, features, memory, at):
        bright = features.levels[0][:, [self.channel]]
        quality = (bright > 0.5).float().mean().reshape(1)
        decoded = SimpleNamespace(logits=40 * (bright - 0.5), presence=torch.ones(1, 1))
        return Step(decoded, quality, state, None)
