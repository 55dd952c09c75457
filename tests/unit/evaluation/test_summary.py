import csv
import json

import pytest

from unprompted.evaluation.files import write_summary
from unprompted.evaluation.metrics import Overlap
from unprompted.evaluation.summary import CaseResult, summarise

HALF = Overlap(tp=1, fp=1, fn=1, tn=7)  # Dice 0.5, IoU 1/3
FULL = Overlap(tp=2, fp=0, fn=0, tn=8)
MISSED = Overlap(tp=0, fp=0, fn=3, tn=7)
SPURIOUS = Overlap(tp=0, fp=2, fn=0, tn=8)
NOWHERE = Overlap(tp=0, fp=0, fn=0, tn=10)
CLASSES = {1: "liver", 2: "spleen"}


def of(*cases):
    results = [CaseResult(f"case-{n}", {1: first, 2: second}) for n, (first, second) in enumerate(cases, 1)]
    return summarise(results, CLASSES)


def test_means_are_over_cases_then_over_classes():
    summary = of((HALF, FULL), (FULL, FULL))
    assert summary["mean"]["1"]["Dice"] == 0.75
    assert summary["mean"]["2"]["Dice"] == 1.0
    assert summary["foreground_mean"]["Dice"] == 0.875
    assert summary["case_mean"]["Dice"] == 0.875
    assert summary["mean"]["1"]["IoU"] == pytest.approx(2 / 3)
    assert summary["mean"]["1"]["TP"] == 1.5


def test_a_missed_organ_worsens_every_mean_and_is_counted():
    good, bad = of((FULL, FULL), (FULL, FULL)), of((FULL, FULL), (FULL, MISSED))
    assert bad["mean"]["2"]["Dice"] == 0.5
    assert bad["mean"]["2"]["n_missed"] == bad["foreground_mean"]["n_missed"] == 1
    for mean in ("foreground_mean", "case_mean"):
        assert bad[mean]["Dice"] < good[mean]["Dice"]


def test_a_spurious_organ_counts_as_0():
    summary = of((FULL, FULL), (FULL, SPURIOUS))
    assert summary["mean"]["2"]["Dice"] == 0.5
    assert summary["mean"]["2"]["n_spurious"] == 1


def test_an_organ_that_is_nowhere_says_nothing_and_is_counted():
    summary = of((FULL, HALF), (FULL, NOWHERE))
    assert summary["mean"]["2"]["Dice"] == 0.5
    assert summary["mean"]["2"]["n"] == 1
    assert summary["mean"]["2"]["n_both_empty"] == 1


def test_a_class_that_is_nowhere_in_all_cases_has_no_mean():
    summary = of((FULL, NOWHERE))
    assert summary["mean"]["2"]["Dice"] is None
    assert summary["foreground_mean"]["Dice"] == 1.0


def test_the_spread_is_the_sample_standard_deviation():
    assert of((HALF, FULL), (FULL, FULL))["mean"]["1"]["Dice_sd"] == pytest.approx(0.35355, abs=1e-5)
    assert of((HALF, FULL))["mean"]["1"]["Dice_sd"] is None


def test_files_have_the_shape_of_nnunet_and_a_row_a_case_and_class(tmp_path):
    write_summary(tmp_path, of((HALF, NOWHERE), (FULL, FULL)))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert {"mean", "foreground_mean", "metric_per_case"} <= set(summary)
    first = summary["metric_per_case"][0]
    assert {"metrics", "prediction_file", "reference_file"} <= set(first)
    assert {"Dice", "IoU", "TP", "FP", "FN", "TN", "n_pred", "n_ref"} <= set(first["metrics"]["1"])
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = [(row["case"], row["class"], row["Dice"]) for row in csv.DictReader(file)]
    assert rows == [
        ("case-1", "liver", "0.5"),
        ("case-1", "spleen", ""),
        ("case-2", "liver", "1.0"),
        ("case-2", "spleen", "1.0"),
    ]


def test_the_table_for_people_has_a_line_a_class(tmp_path):
    write_summary(tmp_path, of((HALF, FULL), (FULL, FULL)))
    page = (tmp_path / "summary.md").read_text()
    assert "| liver | 0.750 | 0.500-1.000 | 0.354 | 0.667 | 2 | 0 | 0 | 0 |" in page
    assert "| case-1 | 0.500 | 1.000 |" in page
