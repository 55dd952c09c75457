import numpy as np
import pytest

from unprompted.evaluation.intervals import bootstrap


def test_equal_scores_have_an_interval_of_no_width():
    overall, (first,) = bootstrap(np.full((5, 1), 0.75))
    assert overall == first == (0.75, 0.75)


def test_the_interval_of_coin_flips_is_that_of_the_binomial():
    table = np.array([[0.0], [1.0]] * 50)
    _, (found,) = bootstrap(table)
    assert found == pytest.approx((0.4, 0.6), abs=0.02)  # 0.5 -+ 1.96 * 0.05


def test_a_class_that_is_nowhere_in_a_case_is_left_out_of_its_draws():
    table = np.array([[0.2, 0.9], [0.4, np.nan], [0.6, 0.9]])
    overall, (first, second) = bootstrap(table)
    assert second == pytest.approx((0.9, 0.9))
    assert 0.2 <= first[0] < 0.4 < first[1] <= 0.6
    assert overall[0] >= first[0]


def test_one_case_has_no_interval():
    assert bootstrap(np.array([[0.5, 0.6]])) == (None, [None, None])


def test_the_same_scores_give_the_same_interval():
    table = np.random.default_rng(0).random((7, 2))
    assert bootstrap(table) == bootstrap(table)
