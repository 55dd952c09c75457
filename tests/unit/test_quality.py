from dataclasses import replace

import numpy as np
import pytest

from builders import make_grid
from seeing import SeeingBackbone, Threshold
from unprompted.engine.round_trip import RoundTrip
from unprompted.images import LabelMap, Volume
from unprompted.methods.base import MemoryBank
from unprompted.prediction import PredictedDice
from unprompted.quality import QualityCheck
from unprompted.segmenter import Segmenter

SIDE = 64


def make_case(name, rows, depth=1):
    """Bright and labelled in the first rows of every slice."""
    voxels = np.zeros((depth, SIDE, SIDE), np.float32)
    voxels[:, :rows] = 255
    grid = make_grid(voxels.shape, (5, 1, 1) if depth > 1 else None)
    return Volume(voxels, grid, name=name), LabelMap((voxels > 0).astype(np.uint8), grid, {1: "organ"})


class Copying(Threshold):
    """Segments whatever it is shown as the first labelled slice it was prepared with."""

    def begin(self, fitted, pooled, start):
        return fitted.support, MemoryBank()

    def step(self, backbone, state, features, memory, at):
        step = super().step(backbone, state, features, memory, at)
        step.decoded.logits = 40 * (state.masks(0).float()[:, None] - 0.5)
        return replace(step, state=state)


def check_of(*rows, depth=1, way_back=True):
    """A check of a task on cases labelled in so many rows."""
    cases = [make_case(f"case-{number}", n, depth) for number, n in enumerate(rows)]
    task = Segmenter(Threshold(), SeeingBackbone()).fit(cases)
    back = RoundTrip(Copying(), task.backbone, task.fitted.gallery) if way_back else None
    return QualityCheck(task, back)


def judge(check, rows, quality=None, depth=1):
    volume, labels = make_case("query", rows, depth)
    prediction = replace(check.task.segment(volume), labels=labels)
    if quality is not None:
        prediction = replace(prediction, quality=np.array(quality, np.float32).reshape(-1, 1))
    (judged,) = check.judge(volume, prediction)
    return judged


def test_the_models_own_iou_becomes_dice():
    # IoU 0.6 is Dice 1.2 / 1.6
    assert judge(check_of(16, 16, way_back=False), 16, [0.6]) == PredictedDice("organ", 0.75, 0.75, None)


def test_slices_count_by_the_pixels_found_in_them():
    check = check_of(16, 16, depth=2, way_back=False)
    volume, labels = make_case("query", 16, 2)
    labels.labels[1, 4:] = 0  # a quarter of the pixels of the first slice
    quality = np.array([[0.5], [1.0]], np.float32)  # (4 * 0.5 + 1 * 1) / 5 = 0.6
    (judged,) = check.judge(volume, replace(check.task.segment(volume), labels=labels, quality=quality))
    assert judged.own == 0.75


def test_a_prediction_that_comes_back_as_true_labels_do_keeps_the_models_own_estimate():
    assert judge(check_of(16, 16), 16, [0.6]) == PredictedDice("organ", 0.75, 0.75, 1.0)


def test_a_prediction_that_does_not_come_back_is_lowered():
    # 1 row against 16: Dice 2/17 on the way back, 0.1176 of the 1 that true labels reach; 0.75 * 0.1176 / 0.5
    judged = judge(check_of(16, 16), 1, [0.6])
    assert judged.round_trip == pytest.approx(2 / 17, abs=1e-4)
    assert judged.dice == pytest.approx(0.75 * 2 / 17 / 0.5, abs=1e-3)
    assert judged.review


def test_the_round_trip_is_a_share_of_what_true_labels_reach():
    # from 8 rows to 16 it is Dice 2/3, and so it is from the true labels of the other case
    check = check_of(16, 8)
    assert judge(check, 8, [0.6]).round_trip == pytest.approx((1 + 1) / 2)


def test_a_class_found_nowhere_has_dice_0_where_every_labelled_case_shows_it():
    judged = judge(check_of(16, 16), 0, [0.9])
    assert judged == PredictedDice("organ", 0.0)
    assert judged.review


def test_a_class_found_nowhere_is_not_judged_where_some_labelled_case_lacks_it():
    judged = judge(check_of(16, 0), 0, [0.9])
    assert judged == PredictedDice("organ", None)
    assert not judged.review


def test_a_prediction_without_doubt_needs_no_review():
    assert not judge(check_of(16, 16), 16, [0.6]).review


def test_judging_twice_says_the_same():
    check = check_of(16, 12, 8)
    assert judge(check, 12, [0.5]) == judge(check, 12, [0.5])
