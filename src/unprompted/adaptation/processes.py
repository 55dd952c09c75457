"""Processes that train one model together, each on its own device, as `accelerate launch` starts them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Processes:
    """All processes of a training, seen from one of them.

    Attributes:
        accelerator: of this process, with its mixed precision.
    """

    accelerator: Accelerator

    @classmethod
    def of(cls, precision: str, device: torch.device) -> "Processes":
        """The processes that were started together, or this one alone.

        Args:
            precision: "no" or "bf16".
            device: of the model in this process.
        """
        AcceleratorState._reset_state(reset_partial_state=True)  # it refuses another precision or device
        return cls(Accelerator(mixed_precision=precision, cpu=device.type == "cpu"))

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.accelerator.num_processes)

    @property
    def rank(self) -> int:
        """Which of them this is, 0 for the first."""
        return int(self.accelerator.process_index)

    def agreed(self, value: float) -> float:
        """A value as the first process has it; all must ask at once."""
        return value if self.count == 1 else float(broadcast_object_list([value])[0])

    def gathered(self, value: Any) -> list[Any]:
        """What every process gives, by rank; all must ask at once."""
        return [value] if self.count == 1 else list(gather_object([value]))

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give every process the mean of all gradients; one without a gradient counts as zeros."""
        if self.count == 1:
            return
        trained = list(parameters)
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
        mean = self.accelerator.reduce(torch.cat([g.flatten() for g in grads]), reduction="mean")
        assert isinstance(mean, Tensor)
        for parameter, part in zip(trained, mean.split([p.numel() for p in trained]), strict=True):
            parameter.grad = part.view_as(parameter).clone()
