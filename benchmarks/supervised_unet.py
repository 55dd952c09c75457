"""The supervised peer: a 2D U-Net from scratch on the very support that our methods get.

    pip install -e ".[bench]"
    python benchmarks/supervised_unet.py hippocampus btcv_ct --minutes 20 --threads 1
    python benchmarks/dev_sets.py --table

Support, intensity scaling, resizing, queries and Dice are those of `dev_sets.py`. The learning rate falls to
zero over `--steps`, or over `--minutes` where these end sooner. A run that its steps ended (`ended_by` in the
result) can be repeated with the same seed and threads; one that the clock ended cannot.
"""

import argparse
import json
import math
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from torch import Tensor, nn

from dev_sets import RESULTS, SETS, dice_of_case, measured, result_path, support_of
from unprompted import Volume
from unprompted.engine.frames import support_frames, to_frames
from unprompted.geometry import reordering_between
from unprompted.intensity import Intensity
from unprompted.methods.base import SupportFrames
from unprompted.segmenter import common_axis, resolve_device
from unprompted.support import SupportSet
from unprompted.training.augment import Augmentation

# Side of the square input and slices a step: close to the native size, larger for the smallest images
# because the first convolution halves them.
INPUT = {
    "hippocampus": (96, 8),
    "btcv_ct": (256, 4),
    "acdc": (256, 4),
    "wbc": (128, 8),
    "sunnybrook_cine": (256, 4),
}
_LOGGED = 60  # points of the loss curve


@dataclass(frozen=True)
class Recipe:
    """How the network is trained.

    Attributes:
        side: of the square input in pixels.
        batch: slices a step.
        steps: at most.
        minutes: at most.
        channels: of the U-Net's levels, each of half the size of the one before; two residual units each.
        learning_rate: of AdamW, after a linear start.
        weight_decay: of AdamW.
        warm_up: steps of the linear start.
        by_class: share of slices drawn so that they show a class, all classes alike; the others are any.
    """

    side: int
    batch: int
    steps: int
    minutes: float
    channels: tuple[int, ...] = (16, 32, 64, 128, 256)
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warm_up: int = 50
    by_class: float = 0.67


@dataclass(frozen=True, eq=False)
class TrainedUNet:
    """A trained network and all that a query needs."""

    network: nn.Module
    support: SupportSet
    intensity: Intensity
    axis: str | None
    recipe: Recipe

    @torch.no_grad()
    def segment(self, volume: Volume) -> tuple[np.ndarray, float | None]:
        """Labels on the query's own grid; a U-Net does not judge itself."""
        sliced = volume.sliced_along(self.axis)
        device = next(self.network.parameters()).device
        scaled = self.intensity.apply(sliced.voxels)
        values = np.array([0, *self.support.classes])
        labels = np.zeros(sliced.grid.shape, values.dtype)
        for first in range(0, len(scaled), self.recipe.batch):
            part = slice(first, first + self.recipe.batch)
            logits = self.network(to_frames(scaled[part], self.recipe.side).to(device))
            logits = F.interpolate(logits, sliced.grid.shape[1:], mode="bilinear", align_corners=False)
            labels[part] = values[logits.argmax(dim=1).cpu().numpy()]
        return reordering_between(sliced.grid, volume.grid).apply(labels), None


def fit(name: str, recipe: Recipe, seed: int, device: str) -> tuple[TrainedUNet, dict[str, Any]]:
    """Train on the support of a set; gives back what a result says about the training too."""
    cases = support_of(name)
    begun = time.perf_counter()
    axis = common_axis([volume for volume, _ in cases])
    sliced = [(v.sliced_along(axis), m if v.axis == "t" else m.sliced_along(axis)) for v, m in cases]
    support = SupportSet.from_cases(sliced)
    intensity = Intensity.decide(support)
    torch.manual_seed(seed)
    network = UNet(
        spatial_dims=2,
        in_channels=3,  # as our methods get them: one channel three times, or colours
        out_channels=len(support.classes) + 1,
        channels=recipe.channels,
        strides=(2,) * (len(recipe.channels) - 1),
        num_res_units=2,
        norm="instance",
    ).to(device)
    about = train(network, support_frames(support, intensity, recipe.side), recipe, seed)
    about["fit_s"] = round(time.perf_counter() - begun, 1)
    trained = TrainedUNet(network.eval(), support, intensity, axis, recipe)
    values = list(support.classes)
    scores = [dice_of_case(truth, trained.segment(volume)[0], values) for volume, truth in cases]
    about["support_dice"] = round(float(np.mean([d for row in scores for d in row if d is not None])), 4)
    return trained, about


def train(network: nn.Module, support: SupportFrames, recipe: Recipe, seed: int) -> dict[str, Any]:
    """Train in place; gives back steps, seconds and the loss over time."""
    device = next(network.parameters()).device
    source, shows = random.Random(seed), support.shows()
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    begun, curve, losses, step, done = time.perf_counter(), [], [], 0, 0.0
    while done < 1:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(recipe, step, done)
        pixels, labels = drawn(support, shows, recipe, source)
        optimiser.zero_grad(set_to_none=True)
        loss = loss_of(network(pixels.to(device)), labels.to(device))
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
        step, seconds = step + 1, time.perf_counter() - begun
        done = max(step / recipe.steps, seconds / (60 * recipe.minutes))
        if done >= (len(curve) + 1) / _LOGGED or done >= 1:
            curve.append(
                {"step": step, "seconds": round(seconds, 1), "loss": round(sum(losses) / len(losses), 4)}
            )
            print(f"step {step:5} {seconds:7.1f} s  loss {curve[-1]['loss']:.4f}", flush=True)
            losses = []
    return {
        "steps": step,
        "ended_by": "steps" if step == recipe.steps else "time",
        "parameters": sum(p.numel() for p in network.parameters()),
        "training_loss": curve,
    }


def learning_rate(recipe: Recipe, step: int, done: float) -> float:
    """A linear start, then half a cosine over the share of training that is done."""
    start = min(1.0, (step + 1) / recipe.warm_up)
    return recipe.learning_rate * start * (1 + math.cos(math.pi * done)) / 2


def drawn(
    support: SupportFrames, shows: Tensor, recipe: Recipe, source: random.Random
) -> tuple[Tensor, Tensor]:
    """One batch ``(B, 3, S, S)`` and its labels ``(B, 1, S, S)``, every slice augmented on its own."""
    augmentation, slices = Augmentation(), []
    for _ in range(recipe.batch):
        if source.random() < recipe.by_class:
            shown = shows[:, source.randrange(shows.shape[1])]
            frame = source.choice(shown.nonzero()[:, 0].tolist())
        else:
            frame = source.randrange(len(shows))
        slices.append(
            augmentation.draw(support.pixels[[frame]], support.labels[[frame]], source.getrandbits(32))
        )
    return torch.cat([p for p, _ in slices]), torch.stack([m for _, m in slices])


def run(name: str, recipe: Recipe, seed: int, device: str) -> dict[str, Any]:
    """Train on the support of a set, segment and score every query."""
    trained, about = fit(name, recipe, seed, device)
    return {
        "set": name,
        "cell": "unet",
        "method": "2D U-Net from scratch",
        "settings": asdict(recipe),
        "backbone": "none",
        "weights_sha256": "scratch",
        "seed": seed,
        "threads": torch.get_num_threads(),
        **about,
        **measured(name, trained.support.classes, trained.segment),
    }


def unet_path(name: str, recipe: Recipe, seed: int) -> Path:
    """File of a result, named by its content."""
    return result_path(name, "unet", [asdict(recipe), seed])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sets", nargs="+", choices=SETS, help="development sets")
    parser.add_argument("--minutes", type=float, default=20, help="longest training of a set (20)")
    parser.add_argument("--steps", type=int, default=3000, help="longest training of a set (3000)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu", help="auto, cpu or cuda")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = resolve_device(options.device)
    RESULTS.mkdir(exist_ok=True)
    for name in options.sets:
        side, batch = INPUT[name]
        recipe = Recipe(side, batch, options.steps, options.minutes)
        path = unet_path(name, recipe, options.seed)
        if not path.exists():
            result = run(name, recipe, options.seed, device)
            path.write_text(json.dumps(result, indent=1) + "\n")
        result = json.loads(path.read_text())
        print(f"{name:16} {'unet':16} Dice {result['dice']:.3f}  {result['dice_per_class']}", flush=True)


if __name__ == "__main__":
    main()
