import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unprompted.engine.histogram import landmarks, matched, mean_landmarks


def image(seed=0, shape=(4, 40, 40)):
    return np.random.default_rng(seed).beta(2, 3, shape).astype(np.float32)


def test_landmarks_are_the_ends_and_ten_quantiles_of_what_is_not_black():
    values = np.array([0.04] * 50 + [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0], np.float32)
    expected = [0, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1]
    assert landmarks(values) == pytest.approx(expected, abs=2e-5)


def test_a_case_matched_to_itself_stays():
    np.testing.assert_allclose(matched(image(), landmarks(image()), landmarks(image())), image(), atol=1e-6)


def test_a_case_of_other_contrast_gets_the_wanted_one():
    darker = image() ** 1.5
    assert np.abs(darker - image()).mean() > 0.09
    assert np.abs(matched(darker, landmarks(darker), landmarks(image())) - image()).mean() < 0.03


def test_the_wanted_landmarks_are_the_mean_over_the_support():
    expected = (landmarks(image(0)) + landmarks(image(1) ** 2)) / 2
    np.testing.assert_allclose(mean_landmarks([image(0), image(1) ** 2]), expected)


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_an_image_of_one_brightness_is_no_obstacle(level):
    flat = np.full((2, 8, 8), level, np.float32)
    found = matched(flat, landmarks(flat), landmarks(image()))
    assert np.isfinite(found).all()
    assert len(np.unique(found)) == 1


@given(st.integers(0, 50), st.integers(0, 50), st.sampled_from([4, 16, 1000]))
def test_brightness_is_never_reordered_and_stays_within_0_and_1(seed, other, levels):
    values = np.round(image(seed, (300,)) * levels) / np.float32(levels)
    found = matched(values, landmarks(values), landmarks(image(other)))
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert found.max() <= 1
    assert (np.diff(found[values.argsort(kind="stable")]) >= 0).all()
