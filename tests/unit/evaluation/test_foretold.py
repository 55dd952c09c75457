"""Predicted against measured Dice, on cases small enough to count by hand."""

import pytest

from unprompted.evaluation.foretold import agreement, cases_of


def test_a_prediction_that_turns_the_order_round_has_a_correlation_of_minus_one():
    found = agreement([([0.9], [0.1]), ([0.5], [0.5]), ([0.1], [0.9])])
    assert found.spearman_cases == found.spearman_classes == pytest.approx(-1)
    assert (found.mean_error, found.mean_absolute_error) == pytest.approx((0, 1.6 / 3))
    assert (found.worst_fifth, found.worst_fifth_found) == (1, 0)


def test_cases_are_compared_by_the_mean_of_their_classes():
    # Means 0.3 < 0.5 < 0.6, predicted 0.2 < 0.4 < 0.7: the same order; pair by pair it is another.
    found = agreement([([0.6, 0.0], [0.0, 0.4]), ([0.5, 0.5], [0.4, 0.4]), ([0.6, 0.6], [0.7, 0.7])])
    assert found.spearman_cases == pytest.approx(1)
    assert found.spearman_classes < 1
    assert found.mean_error == pytest.approx((-0.6 + 0.4 - 0.1 - 0.1 + 0.1 + 0.1) / 6)


def test_classes_that_one_side_leaves_open_do_not_count():
    found = agreement([([0.5, None], [0.4, 0.9]), ([0.5, 0.2], [0.4, None]), ([None], [None])])
    assert found.cases == 2
    assert found.mean_absolute_error == pytest.approx(0.1)


def test_a_correlation_of_two_cases_or_of_equal_values_is_left_open():
    assert agreement([([0.5], [0.4]), ([0.6], [0.5])]).spearman_cases is None
    assert agreement([([0.5], [0.4]), ([0.6], [0.4]), ([0.7], [0.4])]).spearman_cases is None


def test_nothing_predicted_is_no_agreement():
    assert agreement([([0.5], [None])]) is None
    assert agreement([]) is None


def test_the_worst_fifth_is_rounded_up():
    cases = [([k / 10], [k / 10]) for k in range(6)]
    assert (agreement(cases).worst_fifth, agreement(cases).worst_fifth_found) == (2, 2)


def test_results_without_predictions_are_left_out():
    results = [
        {"cases": {"a": {"Dice": [0.5], "predicted": [0.4]}}},
        {"cases": {"b": {"Dice": [0.5]}}},
    ]
    assert cases_of(results) == [([0.5], [0.4])]
