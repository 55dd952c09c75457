import numpy as np
import pytest

from builders import make_example
from unprompted.errors import UsageError
from unprompted.evaluation.folds import folds_of
from unprompted.support import SupportSet


def make_support(cases, classes=None):
    """Cases by name: the single value that each slice holds."""
    examples = [
        make_example(np.full((2, 2), 10 * number + value), np.full((2, 2), value), name, position)
        for number, (name, values) in enumerate(cases.items())
        for position, value in enumerate(values)
    ]
    return SupportSet(tuple(examples), classes or {1: "one", 2: "two"})


def split_of(support, **options):
    """How it was split, and per fold the cases learned from and those asked."""
    how, folds = folds_of(support, None, **options)
    return how, [(fold.support.cases, [q.volume.name for q in fold.queries]) for fold in folds]


def test_every_case_is_asked_once_and_then_not_learned_from():
    support = make_support({"a": [1, 2], "b": [1, 2], "c": [2, 1]})
    assert split_of(support) == (
        "leave-one-out",
        [(("b", "c"), ["a"]), (("a", "c"), ["b"]), (("a", "b"), ["c"])],
    )


def test_cases_of_one_patient_are_left_out_together():
    support = make_support({"a-ED": [1, 2], "a-ES": [1, 2], "b": [1, 2]})
    support = support.of_patients(lambda case: case[0])
    assert split_of(support)[1] == [(("b",), ["a-ED", "a-ES"]), (("a-ED", "a-ES"), ["b"])]


def test_of_many_cases_a_few_are_asked_evenly_spaced_and_all_others_learned_from():
    support = make_support({name: [1, 2] for name in "abcde"})
    assert split_of(support, most=3)[1] == [
        (("b", "c", "d", "e"), ["a"]),
        (("a", "b", "d", "e"), ["c"]),
        (("a", "b", "c", "d"), ["e"]),
    ]


def test_a_class_is_judged_only_where_the_case_and_the_others_show_it():
    support = make_support({"a": [1, 2], "b": [1, 0], "c": [1, 3]}, {1: "one", 2: "two", 3: "three"})
    _, folds = folds_of(support, None)
    assert [fold.queries[0].truth.classes for fold in folds] == [{1: "one"}, {1: "one"}, {1: "one"}]
    assert folds[0].support.classes == {1: "one", 3: "three"}
    assert folds[2].queries[0].truth.labels[:, 0, 0].tolist() == [1, 0]


def test_a_case_that_shares_no_class_with_the_others_is_not_asked():
    support = make_support({"a": [1], "b": [1], "c": [2]})
    assert split_of(support)[1] == [(("b", "c"), ["a"]), (("a", "c"), ["b"])]


def test_one_volume_is_split_at_the_middle_of_the_slices_that_show_something():
    how, folds = folds_of(make_support({"a": [0, 0, 0, 1, 1, 1, 1, 0]}, {1: "one"}), None)
    assert how == "split-half"
    assert [[e.position for e in fold.support.examples] for fold in folds] == [[5, 6, 7], [0, 1, 2, 3, 4]]
    assert [fold.queries[0].volume.grid.shape[0] for fold in folds] == [5, 3]


@pytest.mark.parametrize("values", [[1], [0, 1, 0]])
def test_one_labelled_slice_cannot_be_split(values):
    with pytest.raises(UsageError, match="label one more case to get an estimate"):
        folds_of(make_support({"a": values}, {1: "one"}), None)
