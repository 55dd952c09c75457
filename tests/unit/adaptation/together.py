"""One of several processes that adapt the small backbone together; writes what it came to as JSON."""

import json
import os
import sys
from pathlib import Path

import torch

from small import make_backbone, make_support
from unprompted.adaptation.adapt import adapt
from unprompted.adaptation.processes import Processes
from unprompted.adaptation.settings import Adaptation
from unprompted.training.checkpoint import Checkpoint

torch.set_num_threads(1)
folder, stop_after = Path(sys.argv[1]), int(sys.argv[2])
SETTINGS = Adaptation(steps=8, learning_rate=3e-3, frames=2, classes=2, checks=2, judged=2)


def averaged_gradient() -> list[float]:
    """The mean over processes of the gradients (1, 2) and none, or (3, 4) and 6."""
    processes = Processes.of("no", torch.device("cpu"))
    one, other = torch.nn.Parameter(torch.zeros(2)), torch.nn.Parameter(torch.zeros(1))
    one.grad = torch.tensor([1.0, 2.0]) + 2 * processes.rank
    if processes.rank == 1:
        other.grad = torch.tensor([6.0])
    processes.average_gradients([one, other])
    return [*one.grad.tolist(), *([] if other.grad is None else other.grad.tolist())]


class Killed(Exception):
    pass


def until(what: str, done: float, of: float) -> None:
    if done > stop_after:
        raise Killed


try:
    found = adapt(
        make_backbone(),
        make_support(),
        SETTINGS,
        seed=0,
        progress=until,
        checkpoint=Checkpoint(folder / "checkpoint.pt"),
    )
    result = {"digest": found.backbone.digest, "steps": found.steps, "gradient": averaged_gradient()}
except Killed:
    result = {"killed": (folder / "checkpoint.pt").is_file()}
(folder / f"{os.environ.get('RANK', '0')}.json").write_text(json.dumps(result))
