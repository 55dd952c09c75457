import json

import numpy as np
import pytest

from builders import make_grid, make_labels, make_volume
from seeing import SeeingBackbone, Threshold
from unprompted.errors import UsageError
from unprompted.evaluation.estimate import estimate
from unprompted.images import LabelMap, Volume
from unprompted.segmenter import Segmenter

SIDE = 64  # of the seeing backbone: slices are seen as they are


def make_case(name, found, true, spacing_mm=None, depth=1):
    """Bright in the first `found` rows, labelled in the first `true` rows of every slice."""
    voxels, labels = np.zeros((2, depth, SIDE, SIDE), np.uint8)
    voxels[:, :found], labels[:, :true] = 255, 1
    grid = make_grid(voxels.shape, spacing_mm)
    return Volume(voxels.astype(np.float32), grid, name=name), LabelMap(labels, grid, {1: "organ"})


@pytest.fixture
def spy():
    """A method that keeps what it is trained on and prepared with."""

    class Spy(Threshold):
        seen = []  # noqa: RUF012

        def train(self, backbone, support, seed, progress):
            self.seen.append(support)
            return super().train(backbone, support, seed, progress)

        def prepare(self, backbone, support, learned):
            self.seen.append(support)
            return super().prepare(backbone, support, learned)

    return Spy()


def estimated(cases, *methods, **options):
    segmenters = [Segmenter(method, SeeingBackbone()) for method in methods or (Threshold(),)]
    return estimate(cases, segmenters, **options)


def test_each_case_is_measured_and_the_mean_has_the_range_of_student():
    # Dice 2*16/(32+16) = 2/3, 2*24/(32+24) = 6/7, 1; mean 0.8413, SD 0.1672, t(0.975; 2) = 4.3027
    found = estimated([make_case("a", 32, 16), make_case("b", 32, 24), make_case("c", 32, 32)])
    (method,) = found.methods
    assert found.split == "leave-one-out"
    assert [trial.dice for trial in method.trials] == [{"organ": 0.6667}, {"organ": 0.8571}, {"organ": 1.0}]
    (organ,) = method.per_class
    assert (organ.name, organ.cases) == ("organ", 3)
    assert organ.dice == pytest.approx(0.8413, abs=1e-4)
    assert organ.low == pytest.approx(0.8413 - 4.3027 * 0.1672 / 3**0.5, abs=1e-3)
    assert organ.high == 1.0
    assert method.overall.dice == organ.dice


def test_nothing_of_a_case_left_out_reaches_the_method(spy):
    estimated([make_case("a", 10, 5), make_case("b", 20, 15), make_case("c", 30, 25)], spy)
    rows_labelled = [[int(frame[:, 0].sum()) for frame in support.labels] for support in spy.seen]
    assert rows_labelled == [[15, 25], [15, 25], [5, 25], [5, 25], [5, 15], [5, 15]]
    rows_bright = [[int((p[0, :, 0] > 0.5).sum()) for p in support.pixels] for support in spy.seen]
    assert rows_bright[::2] == [[20, 30], [10, 30], [10, 20]]


def test_two_halves_of_one_case_give_no_range():
    found = estimated([make_case("a", 32, 16, (5, 1, 1), depth=4)])
    assert found.split == "split-half"
    (organ,) = found.methods[0].per_class
    assert (organ.dice, organ.low, organ.high, organ.cases) == (0.6667, None, None, 2)
    assert "gives no range" in found.how


@pytest.mark.parametrize("axis", ["S", "A", "R"])
def test_cases_left_out_are_seen_along_the_slice_axis_of_the_task(axis, spy):
    cases = [make_case(name, 32, 16, (5, 1, 1), depth=3) for name in "ab"]
    found = estimated(cases, spy, axis=axis)
    depth = 3 if axis == "S" else SIDE
    assert len(spy.seen[0]) == depth
    assert [trial.case for trial in found.methods[0].trials] == ["a", "b"]


def test_the_better_method_wins_and_it_is_said_in_how_many_cases():
    # in colour, channel 1 shows the labelled rows and channel 0 nothing
    cases = []
    for name, rows in (("a", 16), ("b", 24)):
        volume, labels = make_case(name, rows, rows)
        rgb = np.stack([0 * volume.voxels, volume.voxels, volume.voxels], axis=-1)
        cases.append((Volume(rgb, volume.grid, name=name), labels))
    found = estimated(cases, Threshold(channel=0), Threshold(channel=1))
    worse, better = found.methods
    assert (worse.overall.dice, better.overall.dice) == (0.0, 1.0)
    assert found.best is better
    assert found.wins_of_best(worse) == 2


def test_a_class_that_only_one_case_shows_has_no_estimate():
    first = make_volume((1, SIDE, SIDE), name="a"), make_labels(np.ones((1, SIDE, SIDE)))
    both = np.ones((1, SIDE, SIDE))
    both[:, :4] = 2
    second = make_volume((1, SIDE, SIDE), name="b", seed=1), make_labels(both)
    found = estimated([first, second])
    per_class = {e.name: (e.dice, e.cases) for e in found.methods[0].per_class}
    assert per_class["label 2"] == (None, 0)
    assert per_class["label 1"][1] == 2


def test_an_estimate_is_json():
    content = estimated([make_case("a", 32, 16), make_case("b", 32, 24)]).as_dict()
    assert json.loads(json.dumps(content))["methods"][0]["trials"][0]["dice"] == {"organ": 0.6667}
    assert content["best"] == "Threshold"


def test_a_single_picture_cannot_be_estimated():
    with pytest.raises(UsageError, match="label one more case"):
        estimated([make_case("a", 32, 16)])
