import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unprompted.ranks import quantiles

PERCENTS = (0.5, 50, 99.5)


@pytest.mark.parametrize("values", [[7], [1, 2], [-3, 0, -0.0, 5], [1e30, -1e30, 1e-30]])
def test_quantiles_in_parts_are_those_of_numpy(values):
    array = np.array(values, np.float32)
    found = quantiles(lambda: (array[i : i + 1] for i in range(len(array))), [p / 100 for p in PERCENTS])
    assert found.tolist() == np.percentile(array, PERCENTS).tolist()


@given(st.integers(0, 10_000), st.integers(1, 3000), st.sampled_from([0.01, 1.0, 300.0]), st.booleans())
def test_that_holds_for_noise_and_for_integers_of_any_scale(seed, count, scale, whole):
    array = (np.random.default_rng(seed).normal(size=count) * scale).astype(np.float32)
    array = np.round(array) if whole else array
    found = quantiles(lambda: np.array_split(array, 3), [p / 100 for p in PERCENTS])
    assert found.tolist() == np.percentile(array, PERCENTS).tolist()
