import json

import pytest

RECIPE = """
title = "Two boxes"
backbones = ["{model}"]

[[datasets]]
name = "boxes"
path = "{data}"

[[methods]]
method = "sam2-mask"
refine = false
settings = {{supports = 1}}

[[methods]]
peer = "registration"
settings = {{iterations = 2}}
"""


@pytest.fixture
def recipe(case_folder, tiny_model_folder, tmp_path):
    path = tmp_path / "boxes.toml"
    path.write_text(RECIPE.format(model=tiny_model_folder, data=case_folder / "support"))
    return path


def cells(folder):
    return sorted((folder / "cells").iterdir())


def test_a_recipe_becomes_results_and_a_report_and_is_not_run_twice(call, recipe, tmp_path):
    ended = call("benchmark", recipe)
    assert ended.code == 0
    results = [json.loads(path.read_text()) for path in cells(tmp_path / "results")]
    assert [(r["method"], r["support"], r["queries"]) for r in results] == [
        ("registration", ["labelled-1"], 1),
        ("sam2-mask", ["labelled-1"], 1),
    ]
    assert results[1]["weights_sha256"]
    assert (tmp_path / "results" / "boxes.md").is_file()
    assert (tmp_path / "results" / "boxes.html").is_file()
    before = [path.stat().st_mtime_ns for path in cells(tmp_path / "results")]
    again = call("benchmark", recipe)
    assert "2 cells, 2 with a result" in again.out
    assert [path.stat().st_mtime_ns for path in cells(tmp_path / "results")] == before


def test_cells_run_side_by_side_give_the_same_results(call, recipe, tmp_path):
    assert call("benchmark", recipe, "-o", tmp_path / "one").code == 0
    assert call("benchmark", recipe, "-o", tmp_path / "two", "--jobs", 2).code == 0
    for first, second in zip(cells(tmp_path / "one"), cells(tmp_path / "two"), strict=True):
        assert first.name == second.name
        assert json.loads(first.read_text())["cases"] == json.loads(second.read_text())["cases"]


def test_a_report_of_what_is_there_runs_nothing_and_names_what_is_missing(call, recipe, tmp_path):
    assert call("benchmark", recipe).code == 0
    lost, kept = cells(tmp_path / "results")
    lost.unlink()
    ended = call("benchmark", recipe, "--report-only")
    assert ended.code == 0
    assert cells(tmp_path / "results") == [kept]
    report = (tmp_path / "results" / "boxes.md").read_text()
    assert "| sam2-mask |" in report
    assert "registration, none, 1 shot, seed 0: not run yet" in report


def test_a_dry_run_lists_what_is_missing_and_writes_nothing(call, recipe, tmp_path):
    ended = call("benchmark", recipe, "--dry-run")
    assert ended.code == 0
    assert "missing    boxes, registration, none, 1 shot, seed 0" in ended.out
    assert not (tmp_path / "results").exists()


def test_a_cell_that_cannot_be_is_told_and_ends_with_4(call, recipe, tmp_path):
    recipe.write_text(recipe.read_text().replace("iterations = 2", "rounds = 2"))
    ended = call("benchmark", recipe)
    assert ended.code == 4
    assert "peer registration: " in ended.out
    assert "1 of 2 cells have no result" in ended.err
    assert len(cells(tmp_path / "results")) == 1


def test_a_recipe_that_is_none_is_refused(call, tmp_path):
    ended = call("benchmark", tmp_path / "nothing.toml")
    assert ended.code == 2
    assert "nothing.toml" in ended.err
