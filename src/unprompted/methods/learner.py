"""The online few-shot learner: one convolution fitted by exact steepest descent, and its samples.

Solver: Learning What to Learn for VOS (Bhat et al. 2020), as read by OFL-SAM2 (arXiv:2512.24861).
Letters: K objects, n samples, C input and M target channels, k kernel side, g grid side.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

_SMALLEST_CURVATURE = 1e-8


@dataclass(frozen=True, eq=False)
class Samples:
    """What the learner is fitted to.

    Attributes:
        inputs: scaled features, ``(K, n, C, g, g)``.
        targets: standardised memory features, ``(K, n, M, g, g)``.
        weights: share of each sample in the loss, ``(K, n)``; every row sums to 1.
        supports: how many samples, the first ones, are support and are never replaced.
    """

    inputs: Tensor
    targets: Tensor
    weights: Tensor
    supports: int

    @classmethod
    def of_support(cls, inputs: Tensor, targets: Tensor) -> "Samples":
        """Support samples of equal weight."""
        objects, count = inputs.shape[:2]
        weights = inputs.new_full((objects, count), 1 / count)
        return cls(inputs, targets, weights, count)

    def adding(
        self, inputs: Tensor, targets: Tensor, kept: Tensor, rate: float, floor: float, capacity: int
    ) -> "Samples":
        """Samples that hold one more frame for the objects that keep it.

        The new sample weighs ``1 / (1 - rate)`` times the newest one before it, so that older samples
        decay by ``1 - rate`` a frame; support keeps at least `floor` of the whole.

        Args:
            inputs: ``(C, g, g)``, the same for all objects.
            targets: ``(K, M, g, g)``.
            kept: ``(K,)`` bool.
            rate: learning rate of the memory, 0..1.
            floor: least joint weight of support, 0..1.
            capacity: largest number of samples; the lightest one that is not support makes room.
        """
        objects = self.weights.shape[0]
        newest = torch.stack([row[row > 0][-1] for row in self.weights])
        fresh = torch.where(kept, newest / (1 - rate), torch.zeros_like(newest))
        all_inputs = torch.cat([self.inputs, inputs.expand(objects, 1, -1, -1, -1)], dim=1)
        all_targets = torch.cat([self.targets, targets.unsqueeze(1)], dim=1)
        weights = torch.cat([self.weights, fresh.unsqueeze(1)], dim=1)
        if weights.shape[1] > capacity:
            lightest = self.supports + int(weights[:, self.supports : -1].sum(dim=0).argmin())
            stay = [i for i in range(weights.shape[1]) if i != lightest]
            all_inputs, all_targets, weights = all_inputs[:, stay], all_targets[:, stay], weights[:, stay]
        return replace(
            self, inputs=all_inputs, targets=all_targets, weights=_with_floor(weights, self.supports, floor)
        )

    def of(self, objects: Tensor) -> "Samples":
        """The samples of some objects, given as indices."""
        return replace(
            self,
            inputs=self.inputs[objects],
            targets=self.targets[objects],
            weights=self.weights[objects],
        )


def _with_floor(weights: Tensor, supports: int, floor: float) -> Tensor:
    """Rows that sum to 1, support holding at least `floor` of each."""
    weights = weights / weights.sum(dim=1, keepdim=True)
    support = weights[:, :supports].sum(dim=1, keepdim=True)
    raised = torch.cat(
        [weights[:, :supports] * floor / support, weights[:, supports:] * (1 - floor) / (1 - support)], dim=1
    )
    return torch.where(support < floor, raised, weights)


def scaled_inputs(coarse: Tensor, kernel: int) -> Tensor:
    """Features ``(..., C, g, g)`` at RMS 1/sqrt(C k^2), so that a unit filter gives a unit output."""
    rms = coarse.square().mean(dim=(-3, -2, -1), keepdim=True).sqrt().clamp(min=1e-6)
    return coarse / (rms * (coarse.shape[-3] * kernel * kernel) ** 0.5)


def apply_filters(filters: Tensor, inputs: Tensor) -> Tensor:
    """Convolve each object's samples with its filter, "same" padding, no bias.

    Args:
        filters: ``(K, M, C, k, k)``.
        inputs: ``(K, n, C, g, g)``.

    Returns:
        ``(K, n, M, g, g)``.
    """
    objects, outputs = filters.shape[:2]
    grouped = inputs.transpose(0, 1).flatten(1, 2)
    mapped = F.conv2d(grouped, filters.flatten(0, 1), padding=filters.shape[-1] // 2, groups=objects)
    return mapped.unflatten(1, (objects, outputs)).transpose(0, 1)


def _adjoint(inputs: Tensor, residuals: Tensor, kernel: int) -> Tensor:
    """The gradient of ``<apply_filters(tau, inputs), residuals>`` in tau: ``(K, M, C, k, k)``."""
    objects, _, channels = inputs.shape[:3]
    outputs = residuals.shape[2]
    shape = (objects * outputs, channels, kernel, kernel)
    gradient = torch.nn.grad.conv2d_weight(
        inputs.transpose(0, 1).flatten(1, 2),
        shape,
        residuals.transpose(0, 1).flatten(1, 2),
        padding=kernel // 2,
        groups=objects,
    )
    return gradient.unflatten(0, (objects, outputs))


def loss(filters: Tensor, samples: Samples, ridge: Tensor) -> Tensor:
    """Half the weighted squared residual plus half the ridge term, per object ``(K,)``."""
    residual = apply_filters(filters, samples.inputs) - samples.targets
    fit = (samples.weights[:, :, None, None, None] * residual.square()).flatten(1).sum(dim=1)
    return 0.5 * fit + 0.5 * ridge.square() * filters.flatten(1).square().sum(dim=1)


def steepest_descent(filters: Tensor, samples: Samples, ridge: Tensor, iterations: int) -> Tensor:
    """Minimise `loss` by steepest descent with the exact step length; differentiable in everything.

    The residual is linear in the filter, so the line minimum has a closed form:
    ``alpha = |g|^2 / (sum_n w_n |g * x_n|^2 + ridge^2 |g|^2)``.

    Args:
        filters: where to start, ``(K, M, C, k, k)``.
        samples: what to fit.
        ridge: weight of the ridge term, scalar tensor; its square multiplies the squared norm.
        iterations: number of steps.

    Paper:
        Bhat et al. 2020, eq. 5-7. Differs: weights enter the loss linearly, not squared, so that a
        sample's weight is its share of the loss.
    """
    kernel = filters.shape[-1]
    weights = samples.weights[:, :, None, None, None]
    for _ in range(iterations):
        residual = weights * (apply_filters(filters, samples.inputs) - samples.targets)
        gradient = _adjoint(samples.inputs, residual, kernel) + ridge.square() * filters
        steepness = gradient.flatten(1).square().sum(dim=1)
        along = (weights * apply_filters(gradient, samples.inputs).square()).flatten(1).sum(dim=1)
        curvature = (along + ridge.square() * steepness).clamp(min=_SMALLEST_CURVATURE)
        filters = filters - (steepness / curvature)[:, None, None, None, None] * gradient
    return filters
