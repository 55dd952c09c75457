import json

import numpy as np
import pytest

from unprompted.errors import DataRefused, UsageError
from unprompted.intensity import Intensity
from unprompted.support import Example, SupportSet


def support_of(*images, labels=None, in_mm=True):
    examples = tuple(
        Example(
            np.asarray(image, np.float32),
            np.ones(np.shape(image)[:2], np.uint8) if labels is None else np.asarray(labels, np.uint8),
            f"case{index}",
            in_mm=in_mm,
        )
        for index, image in enumerate(images)
    )
    values = {int(v) for e in examples for v in np.unique(e.labels)} - {0}
    return SupportSet(examples, {v: f"label {v}" for v in values})


def test_colour_pictures_stay_as_they_are():
    rule = Intensity.decide(support_of(np.full((2, 2, 3), 51)))
    assert rule == Intensity("rgb", 0, 255)
    assert rule.apply(np.full((1, 2, 2, 3), 51.0)).tolist() == np.full((1, 2, 2, 3), np.float32(0.2)).tolist()


def test_8_bit_pictures_without_millimetres_stay_as_they_are():
    assert Intensity.decide(support_of([[0, 255]], in_mm=False)).kind == "rgb"


def test_8_bit_volumes_with_millimetres_are_scaled_by_percentiles():
    assert Intensity.decide(support_of([[0, 255]])) == Intensity("percentile", 0.5, 99.5)


def test_pictures_of_fractions_are_scaled_by_percentiles():
    assert Intensity.decide(support_of([[0, 0.5]], in_mm=False)).kind == "percentile"


@pytest.mark.parametrize(
    ("tissue", "window"),
    [
        ([50, 60, 120], (-160, 240)),
        ([-900, -800, -850], (-1350, 150)),
        ([300, 700, 900], (-450, 1050)),
        ([-900, 100, 2000], (-1024, 3071)),
    ],
)
def test_hounsfield_units_take_the_narrowest_window_that_shows_the_labelled_tissue(tissue, window):
    image = [[-1000, -1000, -1000], tissue]
    rule = Intensity.decide(support_of(image, labels=[[0, 0, 0], [1, 1, 1]]))
    assert (rule.kind, rule.low, rule.high) == ("ct", *window)


def test_a_little_gas_in_an_organ_does_not_widen_the_window():
    image = np.full((10, 10), 60.0)
    image[0, :4] = -1000
    labels = np.ones((10, 10))
    assert Intensity.decide(support_of(image, labels=labels)).describe() == (
        "CT window soft tissue, -160 to 240 HU"
    )


def test_a_small_class_counts_as_much_as_a_large_one():
    image = np.full((10, 10), 60.0)
    image[:3] = -1000
    image[9, :2] = 900
    labels = np.ones((10, 10))
    labels[:3], labels[9, :2] = 0, 2
    assert Intensity.decide(support_of(image, labels=labels)).describe() == "CT window bone, -450 to 1050 HU"


def test_a_ct_window_clips():
    rule = Intensity("ct", -160, 240)
    assert rule.apply(np.array([-1000.0, -160, 40, 240, 999])).tolist() == [0, 0, 0.5, 1, 1]


def test_percentiles_are_those_of_each_case():
    rule = Intensity("percentile", 0, 100)
    assert rule.apply(np.array([0.0, 5, 10])).tolist() == [0, 0.5, 1]
    assert rule.apply(np.array([100.0, 200, 300])).tolist() == [0, 0.5, 1]


def test_slices_of_a_case_are_scaled_together():
    rule = Intensity("percentile", 0, 100)
    scaled = rule.apply_case([np.array([[0.0, 5]]), np.array([[10.0, 0]])])
    assert [s.tolist() for s in scaled] == [[[0, 0.5]], [[1, 0]]]


def test_a_constant_image_becomes_zeros():
    assert Intensity("percentile", 0.5, 99.5).apply(np.full((1, 2, 2), 7.0)).tolist() == [[[0, 0], [0, 0]]]


def test_a_picture_brighter_than_the_support_can_be_is_refused():
    with pytest.raises(DataRefused, match="0 to 255 but this image reaches 4095"):
        Intensity("rgb", 0, 255).apply(np.array([4095.0]))


def test_the_input_is_left_alone():
    voxels = np.array([0.0, 1000.0], np.float32)
    Intensity("ct", -160, 240).apply(voxels)
    assert voxels.tolist() == [0, 1000]


def test_a_rule_survives_json():
    rule = Intensity("ct", -160.0, 240.0)
    assert Intensity.from_dict(json.loads(json.dumps(rule.as_dict()))) == rule


def test_unknown_kinds_and_empty_ranges_are_refused():
    with pytest.raises(UsageError, match="ct, percentile or rgb"):
        Intensity("z-score", 0, 1)
    with pytest.raises(UsageError, match="grows"):
        Intensity("ct", 5, 5)
