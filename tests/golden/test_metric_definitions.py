"""The traps of product.md B.4 on one pair of masks: 5 x 0.8 x 0.8 mm, a slice too many and a distant blob."""

import numpy as np
import pytest
import torch
from monai.metrics import DiceMetric, HausdorffDistanceMetric

from builders import make_labels
from unprompted.evaluation.folders import measured
from unprompted.evaluation.summary import summarise

SPACING_MM = (5.0, 0.8, 0.8)
TRUTH = np.zeros((12, 60, 60), np.uint8)
TRUTH[2:6, 10:30, 10:30] = 1
FOUND = TRUTH.copy()
FOUND[6, 10:30, 10:30] = 1
FOUND[2:4, 50:52, 50:52] = 1
NOTHING = np.zeros_like(TRUTH)


def ours(*pairs):
    results = [
        measured(str(n), make_labels(found, SPACING_MM), make_labels(truth, SPACING_MM), {1: "organ"}, 1.0)
        for n, (found, truth) in enumerate(pairs)
    ]
    return summarise(results, {1: "organ"}, 1.0)["mean"]["1"]


def monai(metric, *pairs, **options):
    sides = [np.stack(side).astype(np.float32)[:, None] for side in zip(*pairs, strict=True)]
    return metric(*map(torch.from_numpy, sides), **options)


def test_hd95_is_one_slice_and_hd_reaches_the_blob():
    found = ours((FOUND, TRUTH))
    assert found["HD95"] == pytest.approx(5.0, abs=1e-6)
    # From the blob's outer corner, 21.5 pixels from the box along rows and along columns.
    assert found["HD"] == pytest.approx(21.5 * 0.8 * 2**0.5, abs=0.8)


def test_monai_measures_voxels_unless_told_the_spacing():
    metric = HausdorffDistanceMetric(include_background=True, percentile=None)
    assert monai(metric, (FOUND, TRUTH)).item() == pytest.approx((2 * 22**2) ** 0.5, abs=1e-3)
    in_mm = monai(metric, (FOUND, TRUTH), spacing=list(SPACING_MM)).item()
    assert in_mm == pytest.approx(ours((FOUND, TRUTH))["HD"], abs=0.8)  # voxel centres, not surfaces


def test_monai_forgets_a_missed_organ_and_we_do_not():
    metric = HausdorffDistanceMetric(include_background=True, percentile=95)
    theirs = monai(metric, (FOUND, TRUTH), (NOTHING, TRUTH), spacing=list(SPACING_MM))
    assert theirs[1].isnan()
    assert ours((FOUND, TRUTH), (NOTHING, TRUTH))["HD95"] > ours((FOUND, TRUTH))["HD95"]


def test_monai_forgets_a_spurious_organ_in_dice_and_we_do_not():
    theirs = monai(DiceMetric(), (FOUND, TRUTH), (FOUND, NOTHING))
    assert theirs[1].isnan()
    good, both = ours((FOUND, TRUTH)), ours((FOUND, TRUTH), (FOUND, NOTHING))
    assert both["Dice"] == pytest.approx(good["Dice"] / 2)
    assert both["n_spurious"] == 1
