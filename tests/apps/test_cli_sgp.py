"""Training on labelled cases from the command line, and what other methods get of it."""

import json

import pytest

QUICK = ("--set", "epochs=2", "steps_per_epoch=1", "supports=1", "rank=2", "learning_rate=1e-9")


@pytest.fixture(scope="module")
def model(tiny_model_folder):
    return ("--backbone", tiny_model_folder, "--input-size", "128", "--labels", "1")


def test_a_task_is_fitted_with_progress_and_segments(call, case_folder, model, tmp_path):
    task, out = tmp_path / "task", tmp_path / "out"
    ended = call("fit", "-s", case_folder / "support", "-o", task, *model, "--method", "sam2-sgp", *QUICK)
    assert ended.code == 0
    assert "Dice on what was left out" in ended.out
    assert not list(tmp_path.glob(".training-*"))
    assert json.loads((task / "task.json").read_text())["settings"]["supports"] == 1
    query = case_folder / "queries" / "query-3.nii.gz"
    assert call("segment", "-t", task, "-i", query, "-o", out).code == 0
    assert (out / "query-3.nii.gz").is_file()


def test_more_cases_to_train_on_are_told_and_refused_where_nothing_trains(call, case_folder, model, tmp_path):
    words = ("fit", "-s", case_folder / "support", "--shots", "1", "-o", tmp_path / "task", *model)
    train = ("--train", case_folder / "support")
    ended = call(*words, *train, "--method", "sam2-mask")
    assert ended.code == 2
    assert "training" in ended.out
    assert "12 more labelled slices" in ended.out
    assert "nothing trains the backbone here; leave out the cases to train on (--train)" in ended.err


def test_adapters_are_those_of_a_fitted_task_or_none(call, case_folder, model, tmp_path):
    words = ("segment", "-s", case_folder / "support", "-i", case_folder / "queries", "-o", tmp_path / "out")
    ended = call(*words, *model, "--adapters", tmp_path)
    assert ended.code == 3
    assert "holds no fitted task" in ended.err


def test_a_fitted_task_is_not_trained_on_more_cases(call, case_folder, tmp_path):
    words = ("segment", "-t", tmp_path, "-i", case_folder / "queries", "-o", tmp_path / "out")
    ended = call(*words, "--train", case_folder / "support")
    assert ended.code == 2
    assert "a fitted task has its --train already" in ended.err
