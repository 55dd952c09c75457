from itertools import pairwise
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F

from unprompted.methods.learner import Samples, apply_filters, scaled_inputs, steepest_descent

RIDGE = torch.tensor(0.3)


class Frames(NamedTuple):
    """What the learner keeps only sums of: K objects, n samples."""

    inputs: torch.Tensor  # (K, n, C, g, g)
    targets: torch.Tensor  # (K, n, M, g, g)
    weights: torch.Tensor  # (n,)


def make_frames(objects=2, count=3, channels=4, outputs=5, side=6):
    source = torch.Generator().manual_seed(0)
    return Frames(
        torch.randn(objects, count, channels, side, side, generator=source),
        torch.randn(objects, count, outputs, side, side, generator=source),
        torch.full((count,), 1 / count),
    )


def make_filters(kernel, objects=2, channels=4, outputs=5):
    return torch.randn(objects, outputs, channels, kernel, kernel, generator=torch.Generator().manual_seed(1))


def sums_of(frames, kernel):
    return Samples.of_support(frames.inputs, frames.targets, kernel).normal_equations(floor=0.25)


def loss_by_hand(filters, frames, k):
    """Half the weighted squared residual plus half the ridge term of object k, written out."""
    total = 0.5 * RIDGE**2 * filters.square().sum()
    for weight, x, e in zip(frames.weights, frames.inputs[k], frames.targets[k], strict=True):
        mapped = F.conv2d(x[None], filters, padding=filters.shape[-1] // 2)[0]
        total = total + 0.5 * weight * (mapped - e).square().sum()
    return total


def losses(filters, frames):
    return torch.stack([loss_by_hand(filters[k], frames, k) for k in range(len(filters))])


def one_step_by_autograd(filters, frames, k):
    """Steepest descent with the exact step: |g|^2 / (g H g), H through double backward."""
    filters = filters.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss_by_hand(filters, frames, k), filters, create_graph=True)
    direction = gradient.detach()
    (curved,) = torch.autograd.grad((gradient * direction).sum(), filters)
    length = direction.square().sum() / (direction * curved).sum()
    return (filters - length * direction).detach()


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("iterations", [1, 4, 10])
def test_the_closed_form_step_equals_autograd_with_exact_line_search(kernel, iterations):
    frames, filters = make_frames(), make_filters(kernel)
    expected = filters
    for _ in range(iterations):
        expected = torch.stack([one_step_by_autograd(expected[k], frames, k) for k in range(2)])
    found = steepest_descent(filters, *sums_of(frames, kernel), RIDGE, iterations)
    assert float((found - expected).abs().max()) < 1e-5


def test_no_other_step_length_lowers_the_loss_more():
    frames, filters = make_frames(), make_filters(3)
    step = steepest_descent(filters, *sums_of(frames, 3), RIDGE, 1) - filters
    best = losses(filters + step, frames)
    for factor in (0.9, 0.99, 1.01, 1.1):
        assert bool((losses(filters + factor * step, frames) > best).all())


@pytest.mark.parametrize("kernel", [1, 3])
def test_the_loss_falls_with_every_iteration(kernel):
    frames, filters = Frames(*(part.double() for part in make_frames())), make_filters(kernel).double()
    sums = sums_of(frames, kernel)
    falling = [losses(steepest_descent(filters, *sums, RIDGE, n), frames) for n in range(12)]
    assert all(bool((after < before).all()) for before, after in pairwise(falling))


def test_a_1x1_filter_reaches_the_ridge_solution():
    frames = make_frames()
    found = steepest_descent(torch.zeros(2, 5, 4, 1, 1), *sums_of(frames, 1), RIDGE, 100)
    for k in range(2):
        x = (frames.inputs[k] / 3**0.5).transpose(0, 1).flatten(1)  # (C, n HW), three equal weights
        e = (frames.targets[k] / 3**0.5).transpose(0, 1).flatten(1)
        ridge_solution = torch.linalg.solve(x @ x.T + RIDGE**2 * torch.eye(4), x @ e.T).T
        assert float((found[k, :, :, 0, 0] - ridge_solution).abs().max()) < 1e-5


def test_objects_do_not_influence_each_other():
    frames, filters = make_frames(), make_filters(3)
    samples = Samples.of_support(frames.inputs, frames.targets, 3)
    together = steepest_descent(filters, *samples.normal_equations(0.25), RIDGE, 5)
    for k in range(2):
        chosen = torch.tensor([k])
        sums = samples.of(chosen).normal_equations(0.25)
        torch.testing.assert_close(steepest_descent(filters[chosen], *sums, RIDGE, 5)[0], together[k])


def test_filters_that_fit_perfectly_stay_finite():
    frames = make_frames()
    sums = sums_of(frames._replace(targets=torch.zeros_like(frames.targets)), 3)
    assert not steepest_descent(torch.zeros(2, 5, 4, 3, 3), *sums, torch.tensor(0.0), 3).any()


def test_no_iteration_leaves_the_filters_as_they_are():
    filters = make_filters(3)
    assert torch.equal(steepest_descent(filters, *sums_of(make_frames(), 3), RIDGE, 0), filters)


def test_what_is_learned_gets_a_gradient_through_the_steps():
    filters, ridge = make_filters(3).requires_grad_(), RIDGE.clone().requires_grad_()
    losses(steepest_descent(filters, *sums_of(make_frames(), 3), ridge, 3), make_frames()).sum().backward()
    assert float(filters.grad.abs().max()) > 0
    assert float(ridge.grad.abs()) > 0


def test_filters_are_applied_object_by_object_with_same_padding():
    frame = torch.zeros(1, 3, 3)
    frame[0, 1, 1] = 1
    filters = torch.zeros(2, 1, 1, 3, 3)
    filters[0, 0, 0, 0, 0], filters[1, 0, 0, 1, 2] = 5, 7
    first, second = apply_filters(filters, frame)[:, 0]
    assert first.tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 5]]
    assert second.tolist() == [[0, 0, 0], [7, 0, 0], [0, 0, 0]]


def test_inputs_are_scaled_to_one_over_root_of_the_filter_size():
    scaled = scaled_inputs(100 * torch.randn(4, 4, 8, 8), kernel=3)
    rms = scaled.square().mean(dim=(1, 2, 3)).sqrt()
    torch.testing.assert_close(rms, torch.full((4,), 1 / 6))  # 1 / sqrt(4 * 3 * 3)


# Sample weights. Sample i is a frame of C g g = 4 channels of one pixel, 1 in channel i and 0 elsewhere,
# so that the diagonal of the Gram matrix lists the weights of all samples.


def one_hot(number):
    return F.one_hot(torch.tensor(number), 4).float().view(4, 1, 1)


def support_of(count, objects=1):
    inputs = torch.stack([one_hot(i) for i in range(count)]).expand(objects, -1, -1, -1, -1)
    return Samples.of_support(inputs, inputs[:, :, :1], kernel=1)


def added(samples, number, rate=0.5, kept=(True,)):
    return samples.adding(one_hot(number), torch.ones(len(kept), 1, 1, 1), torch.tensor(kept), rate)


def weights_of(samples, floor=0.25):
    gram, _ = samples.normal_equations(floor)
    return gram.diagonal(dim1=1, dim2=2)


def test_support_samples_weigh_the_same():
    torch.testing.assert_close(weights_of(support_of(4, objects=2)), torch.full((2, 4), 0.25))


def test_a_new_sample_outweighs_the_one_before_by_one_over_one_minus_rate():
    once = added(support_of(2), 2)
    torch.testing.assert_close(weights_of(once), torch.tensor([[1.0, 1, 2, 0]]) / 4)
    twice = added(once, 3)
    torch.testing.assert_close(weights_of(twice, floor=0), torch.tensor([[1.0, 1, 2, 4]]) / 8)


def test_older_samples_decay_by_one_minus_rate_a_frame():
    samples = added(added(support_of(2), 2, rate=0.1), 3, rate=0.1)
    torch.testing.assert_close(weights_of(samples), torch.tensor([[0.81, 0.81, 0.9, 1]]) / 3.52)


def test_support_keeps_its_floor():
    samples = added(added(support_of(2), 2), 3)
    # Without a floor support would hold 2 of 8; raised to 0.4, the others share 0.6 as 1 to 2.
    torch.testing.assert_close(weights_of(samples, floor=0.4), torch.tensor([[0.2, 0.2, 0.2, 0.4]]))


def test_support_above_its_floor_is_left_alone():
    samples = added(support_of(2), 2)
    torch.testing.assert_close(weights_of(samples, floor=0.5), weights_of(samples, floor=0.0))


def test_weights_sum_to_one_however_many_frames_are_added():
    samples = support_of(2)
    for _ in range(500):
        samples = added(samples, 3, rate=0.1)
    found = weights_of(samples)
    assert bool(torch.isfinite(found).all())
    torch.testing.assert_close(found, torch.tensor([[0.125, 0.125, 0, 0.75]]))


def test_an_object_that_does_not_keep_a_frame_learns_nothing_from_it():
    samples = added(support_of(2, objects=2), 2, kept=(True, False))
    torch.testing.assert_close(weights_of(samples), torch.tensor([[0.25, 0.25, 0.5, 0], [0.5, 0.5, 0, 0]]))
    again = added(samples, 3, kept=(False, True))
    expected = torch.tensor([[0.25, 0.25, 0.5, 0], [0.25, 0.25, 0, 0.5]])
    torch.testing.assert_close(weights_of(again), expected)


def test_targets_are_weighted_like_the_patches_they_belong_to():
    samples = added(support_of(2), 2)
    _, cross = samples.normal_equations(floor=0.25)
    # The support's targets are 1 for sample 0 and 0 for sample 1, the new sample's is 1.
    torch.testing.assert_close(cross, torch.tensor([[[0.25, 0, 0.5, 0]]]))


def test_fitting_to_added_frames_equals_fitting_to_all_frames_at_their_weights():
    frames = make_frames(objects=1, count=4)
    samples = Samples.of_support(frames.inputs[:, :2], frames.targets[:, :2], 3)
    for n in (2, 3):
        samples = samples.adding(frames.inputs[0, n], frames.targets[:, n], torch.tensor([True]), 0.5)
    weighted = frames._replace(weights=torch.tensor([0.125, 0.125, 0.25, 0.5]))
    filters = make_filters(3, objects=1)
    expected = one_step_by_autograd(filters[0], weighted, 0)
    found = steepest_descent(filters, *samples.normal_equations(0.25), RIDGE, 1)[0]
    assert float((found - expected).abs().max()) < 1e-5


def test_adding_leaves_the_samples_it_started_from():
    before = support_of(2)
    added(before, 3)
    torch.testing.assert_close(weights_of(before), torch.tensor([[0.5, 0.5, 0, 0]]))
