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
    wanted = "organ 1 1.000 1.000-1.000 0.000 1.000 1.000 0.0 0.0 0.00 0.00 2 0 0 0"
    assert wanted in [" ".join(line.split()) for line in ended.out.splitlines()]
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


def test_a_missed_structure_is_as_far_away_as_the_image_is_large(call, case_folder, perfect):
    path = perfect / "query-3.nii.gz"
    labels = read_labels(path)
    without = np.where(labels.labels == 2, 0, labels.labels).astype(np.uint8)
    write_labels(LabelMap(without, labels.grid, labels.classes), path, case_folder / "truth" / path.name)
    summary = json.loads(call("evaluate", "-p", perfect, "-r", case_folder / "truth", "--json").out)
    diagonal = (18**2 + 24**2 + 24**2) ** 0.5  # 6 x 24 x 24 voxels of 3 x 1 x 1 mm
    assert summary["mean"]["2"]["HD95"] == pytest.approx(diagonal / 2)  # the other case is perfect
    assert "diagonal" in summary["definitions"]["missed or spurious in mm"]


def test_the_tolerance_is_stated(call, case_folder, perfect):
    ended = call("evaluate", "-p", perfect, "-r", case_folder / "truth", "--tolerance", "2", "--json")
    summary = json.loads(ended.out)
    assert summary["tolerance_mm"] == 2
    assert "within 2 mm" in summary["definitions"]["NSD"]


@pytest.fixture
def pictures(tmp_path):
    from PIL import Image

    mask = np.zeros((8, 8), np.uint8)
    mask[2:5, 2:5] = 1
    for folder in ("found", "true"):
        (tmp_path / folder).mkdir()
        Image.fromarray(mask).save(tmp_path / folder / "a.png")
    return "-p", tmp_path / "found", "-r", tmp_path / "true"


def test_pictures_are_measured_without_mm_and_it_is_said(call, pictures):
    ended = call("evaluate", *pictures)
    assert ended.code == 0
    assert "nothing is measured in mm: no voxel size in a" in ended.out
    assert "HD95" not in ended.out


def test_pictures_refuse_mm_when_asked_for_it(call, pictures):
    ended = call("evaluate", *pictures, "--mm")
    assert ended.code == 3
    assert "a: distances in mm need images with a voxel size" in ended.err
