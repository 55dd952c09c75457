"""Corrected slices join the memory of a fitted task."""

import numpy as np
import pytest
import torch

from builders import make_subject
from small import make_backbone, make_support
from unprompted.intensity import Intensity
from unprompted.methods.fate_sam import FateSam
from unprompted.methods.ofl_sam2 import OflSam2
from unprompted.methods.support_memory import SupportMemory
from unprompted.refinement.settings import Refinement
from unprompted.segmenter import FittedSegmenter, Segmenter
from unprompted.support import Example


@pytest.fixture(scope="module")
def backbone(single_thread):
    return make_backbone()


@pytest.fixture(
    scope="module", params=[FateSam(), OflSam2(learner=False), OflSam2(epochs=1, steps_per_epoch=1)]
)
def task(request, backbone):
    labelled = [make_subject((2, 64, 64), 2, seed) for seed in (1, 2)]
    return Segmenter(request.param, backbone, refinement=Refinement(steps=0)).fit(labelled)


def corrected(position=1, seed=5, value=None):
    volume, labels = make_subject((3, 64, 64), 2, seed)
    mask = labels.labels[position] if value is None else np.full((64, 64), value, np.uint8)
    return volume, Example(volume.voxels[position], mask, volume.name, position, 3)


def test_a_taught_task_has_the_slice_in_its_support_and_the_old_one_has_not(task):
    _, example = corrected()
    taught = task.taught(example)
    assert len(taught.support.examples) == len(task.support.examples) + 1 == 5
    assert taught.support.digest != task.support.digest
    assert taught.learned == task.learned


def test_teaching_nothing_changes_nothing(task):
    assert task.taught() is task


def test_a_taught_task_segments_otherwise_and_the_old_one_as_before(task):
    volume, example = corrected()
    before = task.segment(volume)
    taught = task.taught(example).segment(volume)
    again = task.segment(volume)
    assert (taught.quality != before.quality).any()
    assert (again.quality == before.quality).all()


def test_a_slice_corrected_twice_teaches_what_it_was_corrected_to_last(task):
    _, example = corrected()
    _, empty = corrected(value=0)
    twice = task.taught(example).taught(empty)
    assert len(twice.support.examples) == 5
    assert twice.support.digest == task.taught(empty).support.digest


def test_a_taught_task_is_saved_and_loaded(task, backbone, tmp_path):
    _, example = corrected()
    taught = task.taught(example)
    taught.save(tmp_path)
    assert FittedSegmenter.load(tmp_path, backbone).support.digest == taught.support.digest


def test_memory_that_grows_equals_memory_that_is_built_whole(backbone):
    support = make_support(cases=3, slices=2)
    some = support.only([0, 1, 3, 4])
    part = SupportMemory.build(backbone, some, [0, 1, 2, 3], torch.ones(4, 2, dtype=torch.bool))
    grown = part.extended(backbone, support, {0: 0, 1: 1, 2: 3, 3: 4}, True, lambda f: f.pooled)
    whole = SupportMemory.build(backbone, support, list(range(6)), torch.ones(6, 2, dtype=torch.bool))
    assert grown.frames == whole.frames == (0, 1, 2, 3, 4, 5)
    assert grown.origins == whole.origins
    assert torch.equal(grown.shows, whole.shows)
    assert torch.allclose(grown.described, whole.described, atol=1e-5)
    assert grown.entries.keys() == whole.entries.keys()
    for pair, entry in whole.entries.items():
        assert torch.allclose(grown.entries[pair].tokens, entry.tokens, atol=1e-4)


def test_a_corrected_slice_is_held_though_the_pool_is_full(backbone):
    labelled = [make_subject((6, 64, 64), 2, seed) for seed in (1, 2)]
    task = Segmenter(FateSam(pool=2), backbone, refinement=Refinement(steps=0)).fit(labelled)
    _, example = corrected()
    (before,), (after,) = (t.fitted.records.values() for t in (task, task.taught(example)))
    assert len(after.frames) == len(before.frames) + 1
    assert after.origins[-1][1] == 1  # case subject-5 comes last; its slice is 1


def test_a_single_slice_is_scaled_by_the_percentiles_of_its_whole_case():
    voxels = np.stack([np.zeros((4, 4)), np.full((4, 4), 100.0)]).astype(np.float32)
    rule = Intensity("percentile", 0.0, 100.0)
    assert rule.bounds([voxels]) == (0.0, 100.0)
    assert (
        rule.apply_case([voxels[1]])[0].tolist() == np.zeros((4, 4)).tolist()
    )  # nothing is known of the rest
    assert rule.apply_case([voxels[1]], (0.0, 100.0))[0].tolist() == np.ones((4, 4)).tolist()
