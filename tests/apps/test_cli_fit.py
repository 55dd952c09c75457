import json
import os
import subprocess
import sys

import pytest

from unprompted.task import read_task


@pytest.fixture
def fit(call, case_folder, fast, tmp_path):
    def of(*more):
        return call("fit", "-s", case_folder / "support", "-o", tmp_path / "task", *fast, *more)

    return of


def test_a_fitted_task_segments_as_its_support_does(call, case_folder, finished, fit, tmp_path):
    assert fit().code == 0
    out = tmp_path / "out"
    ended = call("segment", "-t", tmp_path / "task", "-i", case_folder / "queries", "-o", out)
    assert ended.code == 0
    assert "fitted on labelled-1, labelled-2" in ended.out
    for name in ("query-3.nii.gz", "query-4.nii.gz"):
        assert (out / name).read_bytes() == (finished / name).read_bytes()
    digests = [json.loads((f / "run.json").read_text())["configuration_digest"] for f in (out, finished)]
    assert digests[0] == digests[1]


def test_what_learns_offline_is_saved_with_the_task(call, case_folder, tiny_model_folder, tmp_path):
    task, out = tmp_path / "task", tmp_path / "out"
    settings = ("--set", "epochs=1", "steps_per_epoch=1", "sequence=1", "pool=2")
    words = ("--backbone", tiny_model_folder, *settings, "--labels", "1")
    assert call("fit", "-s", case_folder / "support", "-o", task, *words, "-q").code == 0
    assert (task / "learned.safetensors").stat().st_size > 10_000
    query = case_folder / "queries" / "query-3.nii.gz"
    assert call("segment", "-t", task, "-i", query, "-o", out, "-q").code == 0
    assert (
        call("segment", "-s", case_folder / "support", "-i", query, "-o", tmp_path / "direct", *words).code
        == 0
    )
    assert (out / query.name).read_bytes() == (tmp_path / "direct" / query.name).read_bytes()


def test_a_task_is_replaced_only_when_asked(fit, tmp_path):
    assert fit().code == 0
    before = (tmp_path / "task" / "task.json").read_bytes()
    ended = fit("--labels", "1")
    assert ended.code == 2
    assert "holds a fitted task; use --overwrite" in ended.err
    assert (tmp_path / "task" / "task.json").read_bytes() == before
    assert fit("--labels", "1", "--overwrite").code == 0
    assert json.loads((tmp_path / "task" / "task.json").read_text())["classes"] == {"1": "organ 1"}


def test_a_folder_of_something_else_is_never_replaced(fit, tmp_path):
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "thesis.txt").write_text("precious")
    ended = fit("--overwrite")
    assert ended.code == 2
    assert "holds no fitted task" in ended.err
    assert (tmp_path / "task" / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("words", "named"),
    [(("--labels", "1"), "--labels"), (("--method", "sam2-mask"), "--method"), (("--axis", "S"), "--axis")],
)
def test_what_a_task_has_fixed_cannot_be_chosen_again(call, case_folder, tmp_path, words, named):
    queries = case_folder / "queries"
    ended = call("segment", "-t", tmp_path, "-i", queries, "-o", tmp_path / "out", *words)
    assert ended.code == 2
    assert f"a fitted task has its {named} already" in ended.err


def test_the_plan_of_a_task_is_printed(call, case_folder, fit, tmp_path):
    assert fit().code == 0
    queries, out = case_folder / "queries", tmp_path / "out"
    ended = call("segment", "-t", tmp_path / "task", "-i", queries, "-o", out, "--dry-run")
    assert ended.code == 0
    assert "task       sam2-mask on" in ended.out
    assert "cases      2: query-3, query-4" in ended.out
    assert not out.exists()


def test_a_task_refuses_other_weights(call, case_folder, fit, tiny_model_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    assert fit().code == 0
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_bytes((tiny_model_folder / "config.json").read_bytes())
    weights = load_file(tiny_model_folder / "model.safetensors")
    save_file({name: value * 1.5 for name, value in weights.items()}, other / "model.safetensors")
    queries = case_folder / "queries"
    ended = call("segment", "-t", tmp_path / "task", "-i", queries, "-o", tmp_path / "o", "--backbone", other)
    assert ended.code == 5
    assert "fitted with weights" in ended.err


def test_no_refine_is_said_by_the_task_and_to_a_task(call, case_folder, fit, tmp_path):
    assert fit("--no-refine").code == 0
    assert json.loads((tmp_path / "task" / "task.json").read_text())["refinement"]["steps"] == 0
    words = ("segment", "-t", tmp_path / "task", "-i", case_folder / "queries", "-o", tmp_path / "out")
    ended = call(*words, "--no-refine")
    assert ended.code == 2
    assert "a fitted task has its --no-refine already" in ended.err


def test_what_refinement_came_to_is_said(call, fit, monkeypatch):
    monkeypatch.setattr("unprompted.refinement.settings.DEFAULT_STEPS", 1)
    ended = fit()
    assert ended.code == 0
    assert "refined" in ended.out
    assert "Dice on the case left out" in ended.out


def test_of_several_processes_that_train_together_one_speaks_and_saves(
    case_folder, tiny_model_folder, tmp_path
):
    words = ("fit", "-s", case_folder / "support", "-o", tmp_path / "task", "--backbone", tiny_model_folder)
    words += ("--method", "sam2-sgp", "--set", "epochs=2", "steps_per_epoch=1", "--no-refine")
    launcher = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    command = [str(word) for word in (*launcher, "-m", "unprompted", *words)]
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, env=alone, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("task saved") == 1
    assert read_task(tmp_path / "task")["method"] == "sam2-sgp"
    assert not list(tmp_path.glob(".training-*"))
