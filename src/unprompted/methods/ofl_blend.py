"""What OFL-SAM2 learns offline: initial filters, ridge weight, lift and fusion (arXiv:2512.24861)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unprompted.methods.support_memory import SupportMemory

_FUSION_WIDTH = 128
_FUSION_BIAS = 2.0  # sigmoid(2) = 0.88: training starts near plain SAM2
_DAMPING = 1e-3  # of the least-squares start of the lift, relative to the targets' unit variance


class Blend(nn.Module):
    """What is learned offline: initial filters, ridge weight, lift and fusion.

    Args:
        objects: K.
        channels: C of the features.
        width: M of the memory tokens.
        kernel: side of the filters.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, objects: int, channels: int, width: int, kernel: int) -> None:
        super().__init__()
        self.filters = nn.Parameter(torch.zeros(objects, width, channels, kernel, kernel))
        self.ridge = nn.Parameter(torch.tensor(0.01))  # LWL's initial value
        self.lift = nn.Conv2d(width, channels, 1)
        self.inner = nn.Conv2d(2 * channels, _FUSION_WIDTH, 3, padding=1)
        self.outer = nn.Conv2d(_FUSION_WIDTH, channels, 3, padding=1)
        with torch.no_grad():
            self.outer.weight.zero_()
            self.outer.bias.fill_(_FUSION_BIAS)  # type: ignore[union-attr]
        self.register_buffer("centre", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))

    def standardised(self, tokens: Tensor, side: int) -> Tensor:
        """Memory tokens ``(HW, K, M)`` as targets ``(K, M, g, g)`` with support statistics."""
        scaled = (tokens.float() - self.centre) / self.spread
        return scaled.permute(1, 2, 0).unflatten(2, (side, side))

    def fuse(self, attended: Tensor, mapped: Tensor) -> Tensor:
        """``E_tar = W * E1 + (1 - W) * E2`` with W per pixel and channel, all ``(K, C, g, g)``."""
        target = self.lift(mapped)
        weight = self.outer(F.relu(self.inner(torch.cat([attended, target], dim=1)))).sigmoid()
        return weight * attended + (1 - weight) * target

    def constant_mix(self, attended: Tensor, mapped: Tensor) -> Tensor:
        """The blend without learned fusion: the constant weight it starts from."""
        weight = torch.tensor(_FUSION_BIAS, device=attended.device).sigmoid()
        return weight * attended + (1 - weight) * self.lift(mapped)

    @torch.no_grad()
    def start_from(self, memory: SupportMemory) -> "Blend":
        """Take target statistics from the support, and a lift that leads from targets to features.

        The lift starts as the damped least-squares map from standardised targets to the coarsest
        features, so that E2 is a usable feature before any training.
        """
        tokens = torch.stack([e.tokens[:, 0].float() for e in memory.entries.values()])  # (n, HW, M)
        self.centre.copy_(tokens.mean(dim=(0, 1)))
        self.spread.copy_(tokens.std(dim=(0, 1)).clamp(min=1e-3))
        targets = ((tokens - self.centre) / self.spread).flatten(0, 1)
        coarse = torch.cat([memory.coarse[f] for f, _ in memory.entries]).float()
        features = coarse.permute(0, 2, 3, 1).flatten(0, 2)  # (n HW, C)
        design = torch.cat([targets, torch.ones_like(targets[:, :1])], dim=1)
        damping = _DAMPING * len(design) * torch.eye(design.shape[1], device=design.device)
        solution = torch.linalg.solve(design.T @ design + damping, design.T @ features)
        self.lift.weight.copy_(solution[:-1].T[:, :, None, None])
        self.lift.bias.copy_(solution[-1])  # type: ignore[union-attr]
        return self
