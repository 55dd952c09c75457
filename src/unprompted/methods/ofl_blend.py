"""What OFL-SAM2 learns offline: initial filters, ridge weight, lift and fusion (arXiv:2512.24861)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unprompted.methods.learner import Samples, scaled_inputs
from unprompted.methods.support_memory import SupportMemory

_FUSION_WIDTH = 128
_ATTENDED_ONLY = 16.0  # logit of a fusion weight of 1
_FUSION_BIAS = 0.0  # W starts at one half: both branches count alike
_DAMPING = 1e-3  # of the lift's least-squares start, relative to the mean eigenvalue
_RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # tried for the initial filters, likewise relative


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

    @torch.no_grad()
    def ignore_learner(self) -> None:
        """Make the fusion pass memory attention on as it is: W = 1 to seven digits."""
        self.outer.weight.zero_()
        self.outer.bias.fill_(_ATTENDED_ONLY)  # type: ignore[union-attr]

    def constant_mix(self, attended: Tensor, mapped: Tensor) -> Tensor:
        """The blend without learned fusion: the constant weight it starts from."""
        weight = torch.tensor(_FUSION_BIAS, device=attended.device).sigmoid()
        return weight * attended + (1 - weight) * self.lift(mapped)

    @torch.no_grad()
    def start_targets(self, memory: SupportMemory) -> None:
        """Take the statistics of the targets from the support."""
        tokens = torch.stack([e.tokens[:, 0].float() for e in memory.entries.values()])  # (n, HW, M)
        self.centre.copy_(tokens.mean(dim=(0, 1)))
        self.spread.copy_(tokens.std(dim=(0, 1)).clamp(min=1e-3))

    @torch.no_grad()
    def start_filters(self, memory: SupportMemory, cases: tuple[int, ...]) -> dict[int, Tensor]:
        """Set the initial filters to the ridge solution over all support frames of each class.

        The ridge weight is the one whose filters, fitted without a case, err least on that case; with
        one case, the middle of the range.

        Returns:
            For each case, what leaving it out would add to the filters, of the filters' shape; zero
            where no other case shows the class.
        """
        kernel = self.filters.shape[-1]
        without = {case: torch.zeros_like(self.filters) for case in sorted(set(cases))}
        for k in range(len(self.filters)):
            frames = [f for f, shown in memory.entries if shown == k]
            groups = sorted({cases[f] for f in frames})
            sums = [self._sums(memory, [f for f in frames if cases[f] == c], k) for c in groups]
            gram = torch.stack([g for g, _ in sums])
            cross = torch.stack([b for _, b in sums])
            ridge = min(_RIDGES, key=lambda r: _left_out_error(gram, cross, r)) if len(groups) > 1 else 0.1
            solved = _ridge_solution(gram.sum(dim=0), cross.sum(dim=0), ridge)
            self.filters[k] = solved.view(*self.filters.shape[1:3], kernel, kernel)
            for i, case in enumerate(groups if len(groups) > 1 else ()):
                fewer = _ridge_solution(gram.sum(dim=0) - gram[i], cross.sum(dim=0) - cross[i], ridge)
                without[case][k] = fewer.view_as(self.filters[k]) - self.filters[k]
        return without

    def _sums(self, memory: SupportMemory, frames: list[int], k: int) -> tuple[Tensor, Tensor]:
        """Gram matrix and cross product of one case's frames for one class."""
        kernel = self.filters.shape[-1]
        inputs = torch.stack([memory.coarse[f][0].float() for f in frames])
        side = inputs.shape[-1]
        targets = [self.standardised(memory.entries[f, k].tokens, side)[0] for f in frames]
        samples = Samples.of_support(scaled_inputs(inputs, kernel)[None], torch.stack(targets)[None], kernel)
        return samples.support_gram[0] * len(frames), samples.support_cross[0] * len(frames)

    @torch.no_grad()
    def start_lift(self, targets: Tensor, attended: Tensor) -> None:
        """Set the lift to the damped least-squares map from targets to attended features.

        Args:
            targets: standardised memory features of true masks, ``(n, M, g, g)``.
            attended: E1 of the same frames, ``(n, C, g, g)``.
        """
        design = targets.permute(0, 2, 3, 1).flatten(0, 2)
        design = torch.cat([design, torch.ones_like(design[:, :1])], dim=1)
        features = attended.permute(0, 2, 3, 1).flatten(0, 2)
        solution = _ridge_solution(design.T @ design, (features.T @ design), _DAMPING).T
        self.lift.weight.copy_(solution[:-1].T[:, :, None, None])
        self.lift.bias.copy_(solution[-1])  # type: ignore[union-attr]


def _ridge_solution(gram: Tensor, cross: Tensor, ridge: float) -> Tensor:
    """``B (G + r t I)^-1`` with t the mean eigenvalue of G, so that r is free of scale."""
    size = gram.shape[-1]
    damping = ridge * gram.diagonal().mean() * torch.eye(size, device=gram.device)
    return torch.linalg.solve(gram + damping, cross.T).T


def _left_out_error(gram: Tensor, cross: Tensor, ridge: float) -> float:
    """Squared error on each case of filters fitted to the others, up to a constant; ``(n, P, P)``."""
    error = 0.0
    for i in range(len(gram)):
        filters = _ridge_solution(gram.sum(dim=0) - gram[i], cross.sum(dim=0) - cross[i], ridge)
        error += float(((filters @ gram[i]) * filters).sum() - 2 * (filters * cross[i]).sum())
    return error
