from dataclasses import dataclass, field

import numpy as np
import pytest

from builders import make_labels, make_volume
from unprompted.errors import DataRefused, UsageError
from unprompted.evaluation.episodes import Draw, draw_episode, slices_that_count


@dataclass
class Patients:
    """Patients a..h with two visits each; the named classes are in every case but where `lacks` says so."""

    classes: dict = field(default_factory=lambda: {1: "liver", 2: "spleen"})
    names: str = "abcdefgh"
    lacks: dict = field(default_factory=dict)
    test: tuple = ()

    def cases(self):
        return [f"{name}{visit}" for name in self.names for visit in (1, 2)]

    def load(self, case):
        labels = np.zeros((3, 4, 4), np.uint8)
        for value in {1, 2} - {self.lacks.get(case)}:
            labels[1, value] = value
        return make_volume((3, 4, 4), name=case), make_labels(labels)

    def patient(self, case):
        return case[0]

    def held_out(self):
        return self.test


def test_seed_0_takes_the_first_cases_by_name():
    episode = draw_episode(Patients(), Draw(shots=2))
    assert episode.support == ("a1", "a2")
    assert episode.queries[:2] == ("b1", "b2")
    assert len(episode.queries) == episode.candidates == 14


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("shots", [1, 2, 3, 5])
def test_no_patient_is_on_both_sides(seed, shots):
    episode = draw_episode(Patients(), Draw(shots=shots, seed=seed))
    assert len(episode.support) == shots
    assert not {case[0] for case in episode.support} & {case[0] for case in episode.queries}


def test_a_seed_decides_the_support_and_seeds_differ():
    drawn = [draw_episode(Patients(), Draw(shots=2, seed=seed)).support for seed in range(6)]
    assert drawn == [draw_episode(Patients(), Draw(shots=2, seed=seed)).support for seed in range(6)]
    assert len(set(drawn)) > 2


def test_a_support_that_lacks_a_class_is_drawn_again():
    episode = draw_episode(Patients(lacks={"a1": 2}), Draw(shots=1))
    assert episode.support != ("a1",)


def test_a_class_that_no_case_shows_is_refused_by_name():
    dataset = Patients(classes={1: "liver", 9: "thymus"})
    with pytest.raises(DataRefused, match=r"no support of 2 cases shows every class.*thymus"):
        draw_episode(dataset, Draw(shots=2))


def test_one_class_can_be_asked_alone():
    assert draw_episode(Patients(), Draw(labels=("spleen",))).classes == {2: "spleen"}


def test_classes_nobody_names_are_those_of_the_support():
    assert draw_episode(Patients(classes={}), Draw()).classes == {1: "label 1", 2: "label 2"}


def test_fewer_queries_are_spread_over_the_names():
    episode = draw_episode(Patients(), Draw(shots=2, queries=3))
    assert episode.queries == ("c1", "e2", "g2")
    assert episode.candidates == 14


def test_folds_ask_every_case_once():
    dataset = Patients()
    episodes = [draw_episode(dataset, Draw(shots=1, seed=fold, folds=4)) for fold in range(4)]
    assert sorted(case for e in episodes for case in e.queries) == dataset.cases()
    assert all(e.support[0][0] not in {case[0] for case in e.queries} for e in episodes)


def test_the_official_split_is_kept():
    episode = draw_episode(Patients(test=("g1", "g2", "h1", "h2")), Draw(shots=3, seed=1, official=True))
    assert episode.queries == ("g1", "g2", "h1", "h2")
    assert not {case[0] for case in episode.support} & {"g", "h"}


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (Draw(shots=16), "leave no patient to ask"),
        (Draw(shots=17), "17 shots of 16 cases"),
        (Draw(folds=3, seed=3), "fold 3 of 3"),
        (Draw(official=True), "no official split"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, said):
    with pytest.raises(UsageError, match=said):
        draw_episode(Patients(), draw)


def test_all_slices_count_unless_the_range_is_named():
    volume, truth = make_volume((6, 4, 4), spacing_mm=(2, 1, 1)), np.zeros((6, 4, 4), np.uint8)
    truth[2:4, 1, 1] = 1
    truth = make_labels(truth, (2, 1, 1))
    assert slices_that_count(volume, truth, "all") == (volume, truth)
    cut, cut_truth = slices_that_count(volume, truth, "labelled-range")
    assert cut.voxels.shape == cut_truth.labels.shape == (2, 4, 4)
    assert (cut.voxels == volume.voxels[2:4]).all()
    assert cut.grid.same_space(cut_truth.grid)
    assert cut.grid.affine[2, 3] == volume.grid.affine[2, 3] + 4  # two slices of 2 mm


def test_no_labelled_range_without_labels():
    with pytest.raises(DataRefused, match="no labelled range"):
        slices_that_count(make_volume(), make_labels(np.zeros((4, 32, 32))), "labelled-range")
