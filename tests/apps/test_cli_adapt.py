import json

import pytest

from unprompted.apps.batch.choices import AdaptBudget
from unprompted.errors import UsageError


@pytest.mark.parametrize(
    ("text", "seconds", "steps"),
    [
        ("5min", 300, 0),
        ("90s", 90, 0),
        ("1h", 3600, 0),
        ("1.5 min", 90, 0),
        ("90S", 90, 0),
        ("200steps", 0, 200),
        ("200 steps", 0, 200),
        ("0", 0, 0),
        ("0s", 0, 0),
        ("off", 0, 0),
        (None, 0, 0),
    ],
)
def test_a_budget_is_a_time_or_a_number_of_steps(text, seconds, steps):
    budget = AdaptBudget.of(text)
    assert (budget.seconds, budget.steps) == (seconds, steps)
    assert bool(budget) == (seconds + steps > 0)


@pytest.mark.parametrize("text", ["5", "min", "five minutes", "-5min", "5m", "1.5steps", "1e3s", "5min 30s"])
def test_anything_else_is_no_budget(text):
    with pytest.raises(UsageError, match="give a budget such as 5min, 90s, 1h or 200steps"):
        AdaptBudget.of(text)


@pytest.mark.parametrize("command", ["segment", "fit"])
def test_a_wrong_budget_exits_2_and_nothing_is_written(call, case_folder, fast, tmp_path, command):
    out = tmp_path / "out"
    images = ("-i", case_folder / "queries") if command == "segment" else ()
    ended = call(command, "-s", case_folder / "support", *images, "-o", out, *fast, "--adapt", "soon")
    assert ended.code == 2
    assert "--adapt is 'soon'; give a budget such as 5min, 90s, 1h or 200steps" in ended.err
    assert not out.exists()


def test_a_fitted_task_cannot_be_adapted_again(call, case_folder, tmp_path):
    words = ("segment", "-t", tmp_path, "-i", case_folder / "queries", "-o", tmp_path / "out")
    ended = call(*words, "--adapt", "5min")
    assert ended.code == 2
    assert "a fitted task has its --adapt already" in ended.err


def test_an_adapted_task_is_fitted_and_segments(call, case_folder, fast, tmp_path):
    task, out = tmp_path / "task", tmp_path / "out"
    support = ("-s", case_folder / "support", "--shots", "1", "--labels", "1", "--input-size", "128")
    ended = call("fit", *support, "-o", task, *fast, "--adapt", "1steps")
    assert ended.code == 0
    assert "adapted" in ended.out
    assert "Dice on what was left out" in ended.out
    assert len(json.loads((task / "task.json").read_text())["adapted"]) == 64
    assert call("segment", "-t", task, "-i", case_folder / "queries" / "query-3.nii.gz", "-o", out).code == 0
    assert (out / "query-3.nii.gz").is_file()
