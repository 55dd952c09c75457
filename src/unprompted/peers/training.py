"""The training loop that the networks from scratch share, with its budget."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from monai.losses import DiceCELoss
from torch import Tensor, nn

from unprompted.errors import UsageError
from unprompted.peers.base import Progress

_LOGGED = 30  # points of the loss curve
_WARM_UP = 50  # steps of the linear start


@dataclass(frozen=True)
class Budget:
    """When training ends: at the first of both.

    Attributes:
        minutes: of training.
        steps: of the optimiser; a run they end can be repeated to the bit, one the clock ends cannot.
    """

    minutes: float
    steps: int

    def __post_init__(self) -> None:
        if self.minutes <= 0 or self.steps < 1:
            raise UsageError(f"a budget of {self.minutes:g} minutes and {self.steps} steps; give more than 0")


def train(
    network: nn.Module,
    draw: Callable[[], tuple[Tensor, Tensor]],
    budget: Budget,
    learning_rate: float,
    progress: Progress,
) -> dict[str, Any]:
    """Train in place with AdamW on Dice and cross-entropy; gives back steps, seconds and the loss.

    The learning rate falls along half a cosine to zero at the end of the budget.

    Args:
        network: on the device to train on.
        draw: one batch ``(B, C, ...)`` and its class numbers ``(B, 1, ...)``.
        budget: when to stop.
        learning_rate: the highest.
        progress: called after each step.
    """
    device = next(network.parameters()).device
    loss_of = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)
    optimiser = torch.optim.AdamW(network.parameters(), lr=learning_rate, weight_decay=1e-4)
    curve: list[dict[str, float]] = []
    begun, losses, step, done = time.perf_counter(), [], 0, 0.0
    network.train()
    while done < 1:
        warm = min(1.0, (step + 1) / _WARM_UP)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * warm * (1 + math.cos(math.pi * done)) / 2
        pixels, labels = draw()
        optimiser.zero_grad(set_to_none=True)
        loss = loss_of(network(pixels.to(device)), labels.to(device))
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
        step, seconds = step + 1, time.perf_counter() - begun
        done = max(step / budget.steps, seconds / (60 * budget.minutes))
        progress("training", round(100 * min(done, 1)), 100)
        if done >= (len(curve) + 1) / _LOGGED or done >= 1:
            mean = sum(losses) / len(losses)
            curve.append({"step": step, "seconds": round(seconds, 1), "loss": round(mean, 4)})
            losses = []
    network.eval()
    return {
        "steps": step,
        "ended_by": "steps" if step == budget.steps else "time",
        "parameters": sum(p.numel() for p in network.parameters()),
        "loss": curve,
    }
