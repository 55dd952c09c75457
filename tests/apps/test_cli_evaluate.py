import csv
import json

import numpy as np
import pytest

from unprompted.images import LabelMap
from unprompted.io.base import read_labels, write_labels


@pytest.fixture
def perfect(case_folder):
    """Predictions equal to the truth."""
    for path in (case_folder / "truth").glob("*.nii.gz"):
        write_labels(read_labels(path), case_folder / "predicted" / path.name, path)
    return case_folder / "predicted"


def test_perfect_predictions_have_dice_1(call, case_folder, perfect, tmp_path):
    ended = call("evaluate", "-p", perfect, "-r", case_folder / "truth", "-o", tmp_path / "scores")
    assert ended.code == 0
    assert "organ 1          1.000  0.000  1.000      2       0         0           0" in ended.out
    assert json.loads((tmp_path / "scores" / "summary.json").read_text())["foreground_mean"]["Dice"] == 1.0
    with (tmp_path / "scores" / "metrics.csv").open(newline="") as file:
        assert [row["Dice"] for row in csv.DictReader(file)] == ["1.0"] * 4


def test_a_missed_structure_lowers_the_mean_and_is_counted(call, case_folder, perfect):
    path = perfect / "query-3.nii.gz"
    labels = read_labels(path)
    without = np.where(labels.labels == 2, 0, labels.labels).astype(np.uint8)
    write_labels(LabelMap(without, labels.grid, labels.classes), path, case_folder / "truth" / path.name)
    summary = json.loads(call("evaluate", "-p", perfect, "-r", case_folder / "truth", "--json").out)
    assert summary["mean"]["2"]["Dice"] == 0.5
    assert summary["mean"]["2"]["n_missed"] == 1
    assert summary["mean"]["1"]["Dice"] == 1.0


def test_a_case_without_prediction_is_refused_unless_asked(call, case_folder, perfect):
    (perfect / "query-3.nii.gz").unlink()
    ended = call("evaluate", "-p", perfect, "-r", case_folder / "truth")
    assert ended.code == 3
    assert "1 of 2 references have no prediction: query-3" in ended.err
    ended = call("evaluate", "-p", perfect, "-r", case_folder / "truth", "--partial")
    assert ended.code == 0
    assert "1 references left out because they have no prediction: query-3" in ended.out


def test_other_grids_are_refused(call, case_folder, perfect):
    import nibabel as nib

    path = perfect / "query-3.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), np.diag([2, 2, 2, 1])), path)
    ended = call("evaluate", "-p", perfect, "-r", case_folder / "truth")
    assert ended.code == 3
    assert "query-3: the prediction has" in ended.err


def test_the_output_of_segment_is_understood(call, case_folder, finished):
    ended = call("evaluate", "-p", finished, "-r", case_folder / "truth")
    assert ended.code == 0
    assert "mean of classes" in ended.out


def test_the_support_of_a_run_needs_no_prediction(call, case_folder, fast, tmp_path):
    data, out = case_folder / "support", tmp_path / "out"
    assert call("segment", "-s", data, "-i", data, "-o", out, *fast, "--shots", 1).code == 0
    ended = call("evaluate", "-p", out, "-r", data)
    assert ended.code == 0
    assert "1 references left out because they were the support: labelled-1" in ended.out


def test_one_class_can_be_measured_alone(call, case_folder, perfect):
    ended = call("evaluate", "-p", perfect, "-r", case_folder / "truth", "--labels", "organ 2", "--json")
    assert list(json.loads(ended.out)["mean"]) == ["2"]
