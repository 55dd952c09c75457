"""The online few-shot learner: one convolution fitted by exact steepest descent, and its samples.

Solver: Learning What to Learn for VOS (Bhat et al. 2020), as read by OFL-SAM2 (arXiv:2512.24861).
Letters: K objects, C input and M target channels, k kernel side, g grid side, P = C k^2.

The loss is quadratic in the filter, so samples enter it only through two sums: the Gram matrix of their
patches and the product of targets with patches. Keeping the sums instead of the samples makes the memory
as long as the sequence at constant cost.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

_SMALLEST_CURVATURE = 1e-8


@dataclass(frozen=True, eq=False)
class Samples:
    """What the learner is fitted to, as sums over samples; every object has its own.

    Attributes:
        support_gram: mean of ``X X^T`` over support, ``(K, P, P)``; X holds the patches of one sample.
        support_cross: mean of ``E X^T``, ``(K, M, P)``; E holds its targets.
        recent_gram: decaying sum over accepted frames, ``(K, P, P)``.
        recent_cross: likewise, ``(K, M, P)``.
        recent_weight: sum of their weights, the newest weighing 1, ``(K,)``.
        support_weight: joint weight of support on the same scale, ``(K,)``.
    """

    support_gram: Tensor
    support_cross: Tensor
    recent_gram: Tensor
    recent_cross: Tensor
    recent_weight: Tensor
    support_weight: Tensor

    @classmethod
    def of_support(cls, inputs: Tensor, targets: Tensor, kernel: int) -> "Samples":
        """Support samples of equal weight.

        Args:
            inputs: scaled features, ``(K, n, C, g, g)``.
            targets: standardised memory features, ``(K, n, M, g, g)``.
            kernel: k.
        """
        objects, count = inputs.shape[:2]
        patches = _patches(inputs.flatten(0, 1), kernel).unflatten(0, (objects, count))  # (K, n, P, g g)
        patches = patches.transpose(1, 2).flatten(2)
        wanted = targets.transpose(1, 2).flatten(2)  # (K, M, n g g)
        gram = patches @ patches.transpose(1, 2) / count
        cross = wanted @ patches.transpose(1, 2) / count
        nothing = gram.new_zeros(objects)
        return cls(
            gram, cross, torch.zeros_like(gram), torch.zeros_like(cross), nothing, nothing + float(count)
        )

    def adding(self, inputs: Tensor, targets: Tensor, kept: Tensor, rate: float) -> "Samples":
        """Samples that hold one more frame for the objects that keep it.

        The newest sample weighs ``1 / (1 - rate)`` times the one before it (LWL), so all older ones,
        support included, decay by ``1 - rate``.

        Args:
            inputs: ``(C, g, g)``, the same for all objects.
            targets: ``(K, M, g, g)``.
            kept: ``(K,)`` bool.
            rate: learning rate of the memory, 0..1.
        """
        kernel = round((self.support_gram.shape[1] / inputs.shape[0]) ** 0.5)
        patches = _patches(inputs.unsqueeze(0), kernel)[0]
        gram = patches @ patches.T
        cross = targets.flatten(2) @ patches.T
        decay = torch.where(kept, 1 - rate, 1.0)
        fresh = kept.to(gram.dtype)
        wide = fresh[:, None, None]
        return replace(
            self,
            recent_gram=decay[:, None, None] * self.recent_gram + wide * gram,
            recent_cross=decay[:, None, None] * self.recent_cross + wide * cross,
            recent_weight=decay * self.recent_weight + fresh,
            support_weight=decay * self.support_weight,
        )

    def normal_equations(self, floor: float) -> tuple[Tensor, Tensor]:
        """Gram ``(K, P, P)`` and cross ``(K, M, P)`` with weights that sum to 1.

        Args:
            floor: least joint weight of support, 0..1.
        """
        share = self.support_weight / (self.support_weight + self.recent_weight)
        share = torch.where(self.recent_weight > 0, share.clamp(min=floor), 1.0)[:, None, None]
        rest = (1 - share) / self.recent_weight.clamp(min=1e-12)[:, None, None]
        return (
            share * self.support_gram + rest * self.recent_gram,
            share * self.support_cross + rest * self.recent_cross,
        )

    def of(self, objects: Tensor) -> "Samples":
        """The samples of some objects, given as indices."""
        return Samples(**{name: value[objects] for name, value in vars(self).items()})


def scaled_inputs(coarse: Tensor, kernel: int) -> Tensor:
    """Features ``(..., C, g, g)`` at RMS 1/sqrt(C k^2), so that a unit filter gives a unit output."""
    rms = coarse.square().mean(dim=(-3, -2, -1), keepdim=True).sqrt().clamp(min=1e-6)
    return coarse / (rms * (coarse.shape[-3] * kernel * kernel) ** 0.5)


def _patches(inputs: Tensor, kernel: int) -> Tensor:
    """Every k x k patch of ``(n, C, g, g)``, "same" padding: ``(n, P, g g)``."""
    return F.unfold(inputs, kernel, padding=kernel // 2)


def apply_filters(filters: Tensor, inputs: Tensor) -> Tensor:
    """Convolve one frame ``(C, g, g)`` with each object's filter ``(K, M, C, k, k)``: ``(K, M, g, g)``."""
    mapped = F.conv2d(inputs.unsqueeze(0), filters.flatten(0, 1), padding=filters.shape[-1] // 2)
    return mapped[0].unflatten(0, filters.shape[:2])


def steepest_descent(filters: Tensor, gram: Tensor, cross: Tensor, ridge: Tensor, iterations: int) -> Tensor:
    """Minimise the weighted ridge loss by steepest descent with the exact step length.

    ``L(T) = 1/2 sum_n w_n |T * x_n - e_n|^2 + 1/2 ridge^2 |T|^2``. With Gram matrix G and cross product B
    its gradient is ``g = T G - B + ridge^2 T``, and the minimum along g lies at
    ``alpha = |g|^2 / (<g G, g> + ridge^2 |g|^2)``. Differentiable in everything.

    Args:
        filters: where to start, ``(K, M, C, k, k)``.
        gram: ``(K, P, P)``.
        cross: ``(K, M, P)``.
        ridge: weight of the ridge term, scalar tensor; its square multiplies the squared norm.
        iterations: number of steps.

    Paper:
        Bhat et al. 2020, eq. 5-7. Differs: weights enter the loss linearly, not squared, so that a
        sample's weight is its share of the loss.
    """
    flat = filters.flatten(2)
    gradient = flat @ gram - cross + ridge.square() * flat
    for _ in range(iterations):
        turned = gradient @ gram + ridge.square() * gradient
        steepness = gradient.square().sum(dim=(1, 2))
        curvature = (turned * gradient).sum(dim=(1, 2)).clamp(min=_SMALLEST_CURVATURE)
        length = (steepness / curvature)[:, None, None]
        flat = flat - length * gradient
        gradient = gradient - length * turned  # linear in the filter, so no new pass is needed
    return flat.view_as(filters)
