import json

import pytest


@pytest.fixture
def segment(call, case_folder, fast, tmp_path):
    def of(*more):
        queries = case_folder / "queries"
        return call(
            "segment", "-s", case_folder / "support", "-i", queries, "-o", tmp_path / "out", *fast, *more
        )

    return of


def test_views_are_said_and_recorded(segment, tmp_path):
    ended = segment("--views", "zoom,flips")
    assert ended.code == 0
    assert "views      flips, zoom" in ended.out
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["configuration"]["views"] == ["flips", "zoom"]
    case = json.loads((tmp_path / "out" / "cases" / "query-3.json").read_text())
    assert case["provenance"]["views"] == ["flips", "zoom"]


def test_other_views_are_another_configuration(segment):
    assert segment("--views", "body").code == 0
    ended = segment()
    assert ended.code == 2
    assert "views was ['body'], is []" in ended.err


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
@pytest.mark.parametrize(
    ("views", "message"),
    [
        ("flips,mirror", "no view is called mirror; known: flips, axes, neighbours, histogram, zoom, body"),
        ("axes", "the view axes needs whole labelled volumes"),
    ],
)
def test_views_that_cannot_be_used_exit_2_and_nothing_is_written(segment, tmp_path, views, message, more):
    ended = segment("--views", views, *more)
    assert ended.code == 2
    assert message in ended.err
    assert not (tmp_path / "out").exists()


def test_a_plan_tells_the_views(segment):
    assert "views      neighbours" in segment("--views", "neighbours", "--dry-run").out


def test_a_fitted_task_keeps_its_views(call, case_folder, fast, segment, tmp_path):
    task, queries, out = tmp_path / "task", case_folder / "queries", tmp_path / "again"
    assert segment("--views", "flips,neighbours").code == 0
    assert (
        call("fit", "-s", case_folder / "support", "-o", task, *fast, "--views", "flips,neighbours").code == 0
    )
    assert json.loads((task / "task.json").read_text())["views"] == ["flips", "neighbours"]
    assert (
        "views      flips, neighbours"
        in call("segment", "-t", task, "-i", queries, "-o", out, "--dry-run").out
    )
    ended = call("segment", "-t", task, "-i", queries, "-o", out)
    assert ended.code == 0
    for name in ("query-3.nii.gz", "query-4.nii.gz"):
        assert (out / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    ended = call("segment", "-t", task, "-i", queries, "-o", out, "--views", "zoom")
    assert ended.code == 2
    assert "a fitted task has its --views already" in ended.err
