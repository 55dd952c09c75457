"""Refinement as part of a fit, and of the task it leaves."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from builders import dice, make_subject
from fakes import FakeBackbone
from unprompted import FittedSegmenter, Segmenter, Views
from unprompted.errors import UnreadableFile, UsageError
from unprompted.loading import make_method
from unprompted.refinement.settings import Refinement

CASES = [make_subject((3, 64, 64), classes=2, seed=seed) for seed in range(3)]
QUICK = Refinement(steps=120, steps_per_class=0, width=16, crop=64, examples=12)


def fit(refinement, seed=0, views=None, cases=CASES):
    method = make_method("sam2-mask", {"supports": 1})
    chosen = {"views": views} if views else {}
    return Segmenter(method, FakeBackbone(), refinement=refinement, **chosen).fit(cases, seed=seed)


@pytest.fixture(scope="module")
def fitted(single_thread):
    task = fit(QUICK)
    assert task.refined.refiners, "the checks need a refiner that helps"
    return task


def query():
    return make_subject((3, 64, 64), classes=2, seed=7)


def test_masks_of_a_new_case_get_better(fitted):
    volume, truth = query()
    plain = fit(Refinement(steps=0)).segment(volume).labels.labels
    refined = fitted.segment(volume).labels.labels
    for value in (1, 2):
        assert dice(refined, truth.labels, value) > dice(plain, truth.labels, value) + 0.05


def test_the_history_begins_without_refinement_and_rises(fitted):
    steps, scores = zip(*fitted.refined.history[""], strict=True)
    assert steps == (0, 20, 40, 60)
    assert max(scores) > scores[0]


def test_no_steps_leave_everything_as_it_is():
    task = fit(Refinement(steps=0))
    assert (task.refined.refiners, task.refined.history) == ({}, {})


def test_a_refiner_that_does_not_help_the_part_left_out_is_not_kept():
    subject = make_subject((2, 64, 64), classes=1, seed=0)  # each case is the other's exact copy
    twins = [make_subject((2, 64, 64), classes=1, seed=0, name=name) for name in ("a", "b")]
    task = fit(Refinement(steps=3, learning_rate=0.0), cases=twins)
    assert task.refined.refiners == {}
    assert task.refined.history[""][0][1] > 0
    expected = fit(Refinement(steps=0), cases=twins).segment(subject[0])
    assert np.array_equal(task.segment(subject[0]).labels.labels, expected.labels.labels)


def test_one_labelled_picture_is_not_refined():
    task = fit(QUICK, cases=[make_subject((1, 64, 64), classes=1, seed=0)])
    assert task.refined.refiners == {}


def test_the_same_seed_learns_the_same_and_another_one_something_else(fitted):
    same, other = fit(QUICK).refined.tensors, fit(QUICK, seed=1).refined.tensors
    assert all(torch.equal(value, same[name]) for name, value in fitted.refined.tensors.items())
    assert not all(torch.equal(value, other[name]) for name, value in fitted.refined.tensors.items())


def test_the_random_state_of_the_caller_stays(single_thread):
    before = torch.random.get_rng_state()
    fit(Refinement(steps=2, steps_per_class=0, examples=9))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_every_world_that_is_learned_in_has_its_own_refiner():
    cubes = [make_subject((32, 32, 32), classes=1, seed=seed, spacing_mm=(1, 1, 1)) for seed in range(2)]
    task = fit(
        Refinement(steps=2, steps_per_class=0, examples=6), views=Views(axes=True, flips=True), cases=cubes
    )
    assert set(task.refined.history) == {"", "view:S/", "view:A/", "view:R/"} - {f"view:{task.axis}/"}


def test_a_loaded_task_gives_the_same_masks(fitted, tmp_path):
    fitted.save(tmp_path)
    loaded = FittedSegmenter.load(tmp_path, backbone=FakeBackbone())
    volume, _ = query()
    expected, found = fitted.segment(volume), loaded.segment(volume)
    assert np.array_equal(found.labels.labels, expected.labels.labels)
    assert np.array_equal(found.confidence, expected.confidence)


def test_a_task_saved_again_without_refinement_leaves_no_refiner(fitted, tmp_path):
    fitted.save(tmp_path)
    fit(Refinement(steps=0)).save(tmp_path)
    assert FittedSegmenter.load(tmp_path, backbone=FakeBackbone()).refined.refiners == {}


def test_a_task_whose_refiner_is_damaged_is_refused(fitted, tmp_path):
    fitted.save(tmp_path)
    tensors = load_file(tmp_path / "refined.safetensors")
    save_file(tensors | {"last.weight": torch.zeros(4, 1)}, tmp_path / "refined.safetensors")
    with pytest.raises(UnreadableFile, match="holds no fitted task"):
        FittedSegmenter.load(tmp_path, backbone=FakeBackbone())


def test_the_task_tells_whether_masks_are_refined(fitted, tmp_path):
    fitted.save(tmp_path)
    assert json.loads((tmp_path / "task.json").read_text())["refinement"] == {"steps": 120, "worlds": [""]}


def test_fewer_steps_than_none_are_refused():
    with pytest.raises(UsageError, match="refinement of -1 steps; give 0 or more"):
        Refinement(steps=-1)


def test_every_class_adds_its_steps():
    assert Refinement(steps=100, steps_per_class=10).steps_for(13) == 230
