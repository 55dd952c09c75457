"""Our numbers against MONAI and surface-distance on 50 random pairs of anisotropic shapes."""

import numpy as np
import pytest
import surface_distance as sd
import torch
from monai.metrics import DiceMetric, MeanIoU, SurfaceDiceMetric

from builders import make_labels
from unprompted.evaluation.metrics import overlaps
from unprompted.evaluation.physical import physical_errors

TOLERANCE_MM = 1.5


def blob(source, shape):
    """An ellipsoid with a rough surface; sometimes nothing at all."""
    if source.random() < 0.1:
        return np.zeros(shape, np.uint8)
    middle = [source.uniform(0.3, 0.7) * n for n in shape]
    radius = [source.uniform(0.12, 0.3) * n for n in shape]
    axes = np.ogrid[tuple(slice(0, n) for n in shape)]
    distance = sum(((a - m) / r) ** 2 for a, m, r in zip(axes, middle, radius, strict=True))
    return (distance + source.normal(0, 0.15, shape) < 1).astype(np.uint8)


def pair(number):
    source = np.random.default_rng(number)
    shape = tuple(int(n) for n in source.integers(8, 26, 3))
    spacing = tuple(float(s) for s in source.uniform(0.5, 5.0, 3))
    return blob(source, shape), blob(source, shape), spacing


def as_batch(mask):
    return torch.from_numpy(mask.astype(np.float32))[None, None]


@pytest.mark.parametrize("number", range(50))
def test_overlap_equals_monai(number):
    found, truth, spacing = pair(number)
    ours = overlaps(make_labels(found, spacing), make_labels(truth, spacing), [1])[1]
    dice = DiceMetric(ignore_empty=False)(as_batch(found), as_batch(truth)).item()
    iou = MeanIoU(ignore_empty=False)(as_batch(found), as_batch(truth)).item()
    if ours.both_empty:  # MONAI counts agreement on nothing as 1, we leave it out
        assert (ours.dice, dice, iou) == (None, 1.0, 1.0)
    else:
        assert ours.dice == pytest.approx(dice, abs=1e-6)
        assert ours.iou == pytest.approx(iou, abs=1e-6)


@pytest.mark.parametrize("number", range(50))
def test_distances_equal_surface_distance_and_nsd_equals_monai(number):
    found, truth, spacing = pair(number)
    prediction, reference = make_labels(found, spacing), make_labels(truth, spacing)
    ours = physical_errors(prediction, reference, [1], TOLERANCE_MM)[1]
    if not (found.any() or truth.any()):
        assert ours.hd_mm is None
        return
    if not (found.any() and truth.any()):
        diagonal = sum((n * s) ** 2 for n, s in zip(found.shape, spacing, strict=True)) ** 0.5
        assert (ours.nsd, ours.hd95_mm) == (0.0, pytest.approx(diagonal))
        return
    theirs = sd.compute_surface_distances(truth.astype(bool), found.astype(bool), spacing)
    assert ours.hd_mm == pytest.approx(sd.compute_robust_hausdorff(theirs, 100), abs=1e-6)
    assert ours.hd95_mm == pytest.approx(sd.compute_robust_hausdorff(theirs, 95), abs=1e-6)
    assert ours.masd_mm == pytest.approx(sum(sd.compute_average_surface_distance(theirs)) / 2, abs=1e-6)
    assert ours.nsd == pytest.approx(sd.compute_surface_dice_at_tolerance(theirs, TOLERANCE_MM), abs=1e-6)
    metric = SurfaceDiceMetric([TOLERANCE_MM], include_background=True, use_subvoxels=True)
    monai = metric(as_batch(found), as_batch(truth), spacing=list(spacing)).item()
    assert ours.nsd == pytest.approx(monai, abs=1e-6)


def test_the_50_pairs_hold_empty_masks_of_every_kind():
    kinds = {(bool(found.any()), bool(truth.any())) for found, truth, _ in map(pair, range(50))}
    assert {(True, True), (True, False), (False, True)} <= kinds
