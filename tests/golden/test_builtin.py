"""The weights that ship with the package are worth shipping."""

import time

import numpy as np
import pytest

from builders import dice, make_subject
from unprompted import Segmenter
from unprompted.backbones import shipped
from unprompted.datasets.synthetic import Synthetic
from unprompted.loading import load_backbone, make_method


@pytest.fixture(scope="module")
def cases(single_thread):
    patients = Synthetic(count=3)
    return [patients.load(name) for name in patients.cases()]


def mean_dice(backbone, cases):
    """Plain propagation from two generated patients to a third, mean over organs."""
    fitted = Segmenter(make_method("sam2-mask", {"supports": 4}), backbone).fit(cases[:2])
    volume, truth = cases[2]
    predicted = fitted.segment(volume).labels.labels
    values = list(fitted.support.classes)
    return sum(dice(predicted, truth.labels, value) for value in values) / len(values)


@pytest.mark.slow
def test_pretrained_weights_are_far_ahead_of_random_ones(cases):
    from unprompted.backbones.sam2 import Sam2Backbone
    from unprompted.backbones.tiny import TinyShape, random_model

    random = Sam2Backbone(random_model(TinyShape()).eval(), "random")
    assert mean_dice(load_backbone("builtin"), cases) > mean_dice(random, cases) + 0.2


def test_the_shipped_file_is_small_and_loads_in_a_moment(single_thread):
    begun = time.process_time()
    backbone = load_backbone("builtin")
    assert time.process_time() - begun < 10, "loading should take a second or two; this bound is generous"
    assert (shipped.FOLDER / "model.safetensors").stat().st_size <= 24 * 2**20
    assert sum(p.numel() for p in backbone.model.parameters()) <= 12e6
    assert backbone.input_size == 256


def test_loading_the_weights_again_gives_the_same_mask(single_thread):
    shape, spacing_mm = (4, 64, 64), (3.0, 1.0, 1.0)
    support = make_subject(shape, classes=2, seed=1, spacing_mm=spacing_mm)
    query, _ = make_subject(shape, classes=2, seed=2, spacing_mm=spacing_mm)
    first, second = (
        Segmenter(make_method("sam2-mask", {"supports": 2}), load_backbone("builtin"))
        .fit([support])
        .segment(query)
        for _ in range(2)
    )
    assert set(np.unique(first.labels.labels)) == {0, 1, 2}, "the check needs a mask that is not empty"
    np.testing.assert_array_equal(first.labels.labels, second.labels.labels)
    np.testing.assert_array_equal(first.confidence, second.confidence)
