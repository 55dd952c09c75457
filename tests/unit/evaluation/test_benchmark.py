"""The runner on a dataset in memory and a peer that copies, so that every number can be worked out."""

import json
from dataclasses import dataclass, field

import numpy as np
import pytest

from builders import make_labels, make_volume
from unprompted import registry
from unprompted.errors import UsageError
from unprompted.evaluation.benchmark import plan, run_benchmark
from unprompted.evaluation.recipe import Recipe
from unprompted.evaluation.report import write_report
from unprompted.images import LabelMap, Volume
from unprompted.peers.base import TrainedPeer

SEEN = []
OFF_BY_TWO = {"name": "off by two", "peer": "shifted", "settings": {"pixels": 2}}


@dataclass(frozen=True)
class Squares:
    """Six cases with a square of class 1; in case f there is one of class 2 too."""

    classes: dict = field(default_factory=lambda: {1: "square"})

    def cases(self):
        return list("abcdef")

    def load(self, case):
        labels = np.zeros((2, 16, 16), np.uint8)
        labels[:, 4:8, 4:8] = 1
        spacing = (4.0, 1.0, 1.0)
        volume = make_volume((2, 16, 16), spacing, name=case, seed=ord(case))
        return volume, make_labels(labels, spacing)

    def patient(self, case):
        return case

    def held_out(self):
        return ()


@dataclass(frozen=True)
class Shifted:
    """Says where the square of the support lies, so many pixels to the right."""

    pixels: int = 0
    fails: bool = False

    def fit(self, cases, classes, seed, progress):
        if self.fails:
            raise UsageError("nothing can be learned here")
        _, labels = cases[0]

        def segment(volume):
            SEEN.append(volume)
            return LabelMap(np.roll(labels.labels, self.pixels, axis=2), volume.grid, classes)

        return TrainedPeer(segment, {"cases": len(cases)})


@pytest.fixture(autouse=True)
def plugged_in(monkeypatch):
    SEEN.clear()
    here = {"squares": f"{__name__}:Squares", "shifted": f"{__name__}:Shifted"}
    for known in (registry.DATASETS, registry.PEERS):
        monkeypatch.setattr(known, "_own", known._own | here)


def recipe(*methods, **more):
    entries = methods or ({"name": "exact", "peer": "shifted"},)
    return Recipe(
        title="Squares", datasets=({"name": "squares", "kind": "squares"},), methods=entries, **more
    )


def run(chosen, folder, **options):
    planned, failed = plan(chosen, folder, folder)
    return run_benchmark(planned, **options), failed


def test_a_cell_says_what_was_done_and_how_good_it_was(tmp_path):
    (done,), _ = run(recipe(OFF_BY_TWO), tmp_path)
    written = json.loads(done.planned.path.read_text())
    assert written == json.loads(json.dumps(done.result))
    assert written["overall"]["Dice"] == 0.5
    assert written["overall"]["Dice_pooled"] == written["overall"]["Dice_slice"] == 0.5
    assert written["overall"]["HD"] == pytest.approx(2.0)  # pixels of 1 mm
    assert written["cases"]["b"]["Dice"] == [0.5]
    assert (written["support"], written["queries"], written["seed"]) == (["a"], 5, 0)
    assert written["made_by"] == {"peer": "shifted", "settings": {"pixels": 2, "fails": False}}


def test_a_method_sees_images_only(tmp_path):
    run(recipe(), tmp_path)
    assert [volume.name for volume in SEEN] == list("bcdef")
    assert all(type(volume) is Volume for volume in SEEN)
    for volume in SEEN:
        assert (volume.voxels == Squares().load(volume.name)[0].voxels).all()


def test_finished_cells_are_not_run_again(tmp_path):
    run(recipe(), tmp_path)
    SEEN.clear()
    (done,), _ = run(recipe(), tmp_path)
    assert (SEEN, done.new, done.outdated) == ([], False, False)


def test_a_damaged_result_is_made_again(tmp_path):
    (done,), _ = run(recipe(), tmp_path)
    good = done.planned.path.read_bytes()
    done.planned.path.write_text("{half")
    (again,), _ = run(recipe(), tmp_path)
    assert again.new
    assert json.loads(done.planned.path.read_text())["cases"] == json.loads(good)["cases"]


@pytest.mark.parametrize(
    "other",
    [
        {"seeds": (1,)},
        {"shots": (2,)},
        {"queries": 2},
        {"slices": "labelled-range"},
        {"tolerance_mm": 2.0},
    ],
)
def test_another_protocol_is_another_file(tmp_path, other):
    (first,), _ = plan(recipe(), tmp_path, tmp_path)
    (second,), _ = plan(recipe(**other), tmp_path, tmp_path)
    assert first.path != second.path


def test_a_default_spelled_out_is_the_same_cell(tmp_path):
    (first,), _ = plan(recipe({"peer": "shifted"}), tmp_path, tmp_path)
    (second,), _ = plan(recipe({"peer": "shifted", "settings": {"pixels": 0}}), tmp_path, tmp_path)
    assert first.path == second.path


def test_what_refinement_does_by_default_is_part_of_a_cell(tmp_path, monkeypatch):
    def path(**entry):
        (planned,), _ = plan(recipe({"method": "sam2-mask"} | entry), tmp_path, tmp_path)
        return planned.path.name

    refined, plain = path(), path(refine=False)
    monkeypatch.setattr("unprompted.refinement.settings.DEFAULT_STEPS", 7)
    assert path() != refined
    assert path(refine=False) == plain


def test_results_of_other_code_are_marked_and_run_again_when_asked(tmp_path):
    (done,), _ = run(recipe(), tmp_path)
    done.planned.path.write_text(json.dumps(done.result | {"code": "older"}))
    (kept,), _ = run(recipe(), tmp_path)
    assert (kept.outdated, kept.new) == (True, False)
    (made,), _ = run(recipe(), tmp_path, refresh=True)
    assert (made.outdated, made.new) == (False, True)


def test_a_cell_that_fails_leaves_the_others_alone(tmp_path):
    outcomes, _ = run(
        recipe({"name": "bad", "peer": "shifted", "settings": {"fails": True}}, {"peer": "shifted"}), tmp_path
    )
    assert [done.result is None for done in outcomes] == [True, False]
    assert outcomes[0].problem == "UsageError: nothing can be learned here"
    assert len(list((tmp_path / "cells").iterdir())) == 1


def test_what_cannot_be_drawn_is_told_and_not_run(tmp_path):
    outcomes, failed = run(recipe(shots=(6,)), tmp_path)
    assert outcomes == []
    assert "6 shots leave no patient to ask" in failed[0].problem


@pytest.fixture
def page(tmp_path):
    def of(chosen):
        outcomes, failed = run(chosen, tmp_path)
        write_report(chosen, [*outcomes, *failed], tmp_path, "report")
        return (tmp_path / "report.md").read_text()

    return of


def test_the_report_gives_means_over_supports_with_their_spread(page):
    text = page(recipe(seeds=(0, 1)))
    assert "| exact | 1.000 | 0.000 | 1.000-1.000 | 1.000 | 0.0 | 0 | 0 |" in text
    assert "5 queries; classes square" in text


def test_a_report_of_several_settings_begins_with_methods_against_them(page):
    text = page(recipe({"name": "exact", "peer": "shifted"}, OFF_BY_TWO, shots=(1, 2)))
    table = text.split("## Dice at a glance")[1].split("##")[0].strip().splitlines()
    assert table[2:] == [
        "| method | squares, 1 labelled | squares, 2 labelled |",
        "| --- | ---: | ---: |",
        "| exact | 1.000 | 1.000 |",
        "| off by two | 0.500 | 0.500 |",
    ]
    assert "at a glance" not in page(recipe(shots=(1,)))


def test_published_numbers_stay_in_their_own_column(page):
    published = [
        {"dataset": "squares", "method": "exact", "dice": 0.6, "source": "paper, table 1"},
        {"dataset": "squares", "method": "another", "dice": 0.7, "source": "paper, table 2", "shots": 1},
    ]
    lines = reversed(page(recipe(published=published)).splitlines())  # the table per class comes second
    rows = {line.split(" | ")[0]: line for line in lines}
    assert rows["| exact"].endswith("| 1 | 0.600 (paper, table 1) |")
    assert rows["| another"] == "| another" + " | -" * 10 + " | 0.700 (paper, table 2) |"


def test_fewer_queries_and_cut_slices_are_stated(page):
    text = page(recipe(queries=2, slices="labelled-range"))
    assert "2 queries of 5, spread by name" in text
    assert "queries CUT to the slices that show a label" in text


def test_the_worst_cases_become_pictures_and_plots_are_drawn(page, tmp_path):
    page(recipe({"peer": "shifted", "settings": {"pixels": 3}}, shots=(1, 2)))
    assert len(list((tmp_path / "worst").glob("*.png"))) == 4  # two cells, the two worst of each
    assert sorted(p.name for p in (tmp_path / "plots").iterdir()) == [
        "report-seconds.png",
        "report-shots.png",
    ]
    assert 'src="worst/' in (tmp_path / "report.html").read_text()


def test_failures_are_in_the_report(page):
    text = page(recipe({"peer": "shifted", "settings": {"fails": True}}))
    assert "## Cells without result" in text
    assert "UsageError: nothing can be learned here" in text


@dataclass(frozen=True)
class Gradual(Squares):
    """Six cases of one slice whose square is brighter from case to case."""

    def load(self, case):
        labels = np.zeros((1, 32, 32), np.uint8)
        labels[:, 8:20, 8:20] = 1
        spacing = (4.0, 1.0, 1.0)
        voxels = (labels * (40 + 10 * ord(case) % 60)).astype(np.float32)
        return Volume(voxels, make_labels(labels, spacing).grid, name=case), make_labels(labels, spacing)


def test_the_report_compares_predicted_with_measured_dice(page, tmp_path, monkeypatch):
    monkeypatch.setattr(
        registry.DATASETS, "_own", registry.DATASETS._own | {"squares": f"{__name__}:Gradual"}
    )
    text = page(recipe({"method": "sam2-mask", "refine": False}, {"name": "exact", "peer": "shifted"}))
    (section,) = [part for part in text.split("\n## ") if "Dice predicted without truth" in part[:80]]
    assert "| sam2-mask | 5 |" in section
    assert "exact" not in section
    (cell,) = (tmp_path / "cells").glob("*sam2-mask*")
    for scores in json.loads(cell.read_text())["cases"].values():
        assert 0 <= scores["predicted"][0] <= 1
