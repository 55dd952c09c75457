import json

import numpy as np
import pytest

from unprompted.apps.review.store import CaseState
from unprompted.apps.review.suggest import expected_wrong, ranked, worst_slice

QUALITY = np.array([[0.9, 1.0], [0.5, 0.5], [0.2, 1.0], [0.9, 0.9]])
PIXELS = np.array([[100, 0], [10, 10], [40, 0], [200, 100]])


def record(dice, quality=QUALITY, pixels=PIXELS):
    entries = {f"organ {k}": {"quality": quality[:, k], "pixels": pixels[:, k]} for k in range(2)}
    return {"slices": entries, "predicted_dice": {"organ 0": {"dice": dice, "review": False}}}


def test_expected_wrong_pixels_are_those_of_every_class_times_what_its_iou_lacks():
    assert expected_wrong(QUALITY, PIXELS) == pytest.approx([10, 10, 32, 30])


def test_the_slice_of_most_expected_wrong_pixels_is_named():
    assert worst_slice(QUALITY, PIXELS, []) == 2


def test_a_corrected_slice_is_not_named_again():
    assert worst_slice(QUALITY, PIXELS, [2]) == 3
    assert worst_slice(QUALITY, PIXELS, [0, 1, 2, 3]) is None


def test_neighbours_of_a_corrected_slice_come_last():
    quality, pixels = np.full((40, 1), 0.5), np.full((40, 1), 10)
    pixels[10:14] = 100  # two slices on either side count as neighbours among 40
    assert worst_slice(quality, pixels, [10]) == 13


def test_the_worst_open_case_comes_first():
    records = {"a": record(0.9), "b": record(0.3), "c": record(None), "d": record(0.1)}
    found = ranked(records, {"d": CaseState(1, "rejected")})
    assert [(one.case, one.slice, one.predicted_dice) for one in found] == [
        ("b", 2, 0.3), ("a", 2, 0.9), ("c", 2, None),
    ]  # fmt: skip


def test_the_command_names_cases_and_slices_counted_from_1(call, finished):
    ended = call("suggest", finished, "--json")
    assert ended.code == 0
    found = json.loads(ended.out)
    assert {one["case"] for one in found} == {"query-3", "query-4"}
    assert all(1 <= one["slice"] <= 6 for one in found)
    assert call("suggest", finished).out.splitlines()[0].split() == [
        "case", "slice", "predicted", "Dice", "pixels", "expected", "wrong",
    ]  # fmt: skip


def test_a_folder_without_results_is_refused(call, tmp_path):
    ended = call("suggest", tmp_path)
    assert ended.code == 2
    assert "holds no results of `unprompted segment`" in ended.err
