"""Methods of a recipe that take the adapters of another one, on a small model that learns in moments."""

from dataclasses import dataclass, field

import pytest

from builders import make_subject
from small import make_backbone
from unprompted import registry
from unprompted.evaluation import fitting
from unprompted.evaluation.benchmark import plan, run_benchmark
from unprompted.evaluation.recipe import Recipe
from unprompted.task import read_task

LEARNS = {"epochs": 2, "steps_per_epoch": 8, "learning_rate": 0.01, "supports": 1, "rank": 4}
STILL = {"epochs": 1, "steps_per_epoch": 1, "learning_rate": 1e-12}
LENDER = {"name": "lender", "method": "sam2-sgp", "refine": False, "settings": LEARNS}


def lender(**settings):
    return LENDER | {"settings": LEARNS | settings}


def borrower(**entry):
    return LENDER | {"name": "borrower", "adapters": "lender"} | entry


@dataclass(frozen=True)
class Boxes:
    """Four cases with a bright box each."""

    classes: dict = field(default_factory=lambda: {1: "organ 1"})

    def cases(self):
        return list("abcd")

    def load(self, case):
        return make_subject((2, 64, 64), seed=ord(case), name=case)

    def patient(self, case):
        return case

    def held_out(self):
        return ()


@pytest.fixture(autouse=True)
def plugged_in(monkeypatch, single_thread):
    monkeypatch.setattr(registry.DATASETS, "_own", registry.DATASETS._own | {"boxes": f"{__name__}:Boxes"})
    monkeypatch.setattr(fitting, "_backbone", lambda source: make_backbone())


def recipe(*methods):
    return Recipe(title="x", datasets=({"name": "boxes", "kind": "boxes"},), methods=methods, shots=(3,))


def run(folder, *methods):
    planned, failed = plan(recipe(*methods), folder, folder)
    assert not failed
    done = run_benchmark(planned)
    assert [d.problem for d in done] == [""] * len(done)
    return {d.planned.cell.method.label: d.result for d in done}


def test_borrowers_segment_with_what_the_lender_trained_once(tmp_path):
    found = run(tmp_path, LENDER, borrower(), borrower(name="another", method="fate-sam", settings={}))
    (task,) = (tmp_path / "lent").iterdir()
    trained = read_task(task)["adapted"]
    assert trained != make_backbone().digest
    assert found["borrower"]["adapters_sha256"] == found["another"]["adapters_sha256"] == trained
    assert "adapters_sha256" not in found["lender"]
    # the same method with the same weights on the same cases
    assert found["borrower"]["cases"] == found["lender"]["cases"]
    made_by = found["borrower"]["made_by"]["adapters"]
    assert made_by["settings"]["rank"] == 4
    assert "refine" not in made_by


def test_a_borrower_alone_has_the_lender_trained_first(tmp_path):
    planned, _ = plan(recipe(lender(**STILL), borrower()), tmp_path, tmp_path)
    (done,) = run_benchmark(planned[1:])
    assert done.result["method"] == "borrower"
    assert len(list((tmp_path / "lent").glob("*/task.json"))) == 1


def test_where_training_helps_nothing_the_plain_weights_are_used_and_it_is_told(tmp_path):
    plain = {"method": "sam2-mask", "refine": False}
    found = run(tmp_path, lender(**STILL), borrower(method="sam2-mask", settings={}), plain)
    assert found["borrower"]["adapters_sha256"] is None
    assert found["borrower"]["cases"] == found["sam2-mask"]["cases"]


def test_a_lender_that_trains_nothing_is_refused(tmp_path):
    planned, _ = plan(recipe(lender(training=False), borrower()), tmp_path, tmp_path)
    (done,) = run_benchmark(planned[1:])
    assert "lender has no adapters to give" in done.problem


def test_another_lender_is_another_cell_and_lending_changes_none(tmp_path):
    def paths(*methods):
        return [each.path.name for each in plan(recipe(*methods), tmp_path, tmp_path)[0]]

    lending, first = paths(LENDER, borrower())
    _, second = paths(lender(rank=2), borrower())
    assert first != second
    assert paths(LENDER) == [lending]
    plain = {key: value for key, value in borrower().items() if key != "adapters"}
    assert paths(plain) != [first]
