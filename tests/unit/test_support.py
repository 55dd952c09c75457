import numpy as np
import pytest

from unprompted.errors import EmptySupport, GeometryMismatch, UsageError
from unprompted.geometry import Grid
from unprompted.images import LabelMap, Volume
from unprompted.support import Example, SupportSet, patient_in, stacked


def make_case(name, labels, labelled=None, spacing_mm=None, classes=None):
    labels = np.asarray(labels, np.uint8)
    grid = Grid.with_spacing(labels.shape, spacing_mm) if spacing_mm else Grid.without_mm(labels.shape)
    volume = Volume(labels * 10.0, grid, name=name)
    return volume, LabelMap(labels, grid, classes or {}, labelled)


def test_every_labelled_slice_becomes_an_example():
    labelled = np.array([True, False])
    support = SupportSet.from_cases(
        [make_case("b", [[[1]], [[0]]], labelled), make_case("a", [[[1]], [[0]]])]
    )
    assert [(e.case, e.position, e.depth) for e in support.examples] == [
        ("a", 0, 2),
        ("a", 1, 2),
        ("b", 0, 2),
    ]


def test_classes_without_a_name_are_numbered():
    support = SupportSet.from_cases([make_case("a", [[[0, 2, 5]]], classes={2: "liver"})])
    assert support.classes == {2: "liver", 5: "label 5"}


def test_a_class_missing_in_every_case_is_refused_by_name():
    with pytest.raises(EmptySupport, match=r"no support case shows spleen \(2\)"):
        SupportSet.from_cases([make_case("a", [[[0, 1]]])], classes={1: "liver", 2: "spleen"})


def test_labels_of_background_only_are_refused():
    with pytest.raises(EmptySupport, match="background only"):
        SupportSet.from_cases([make_case("a", [[[0, 0]]])])


def test_a_support_without_labelled_slices_is_refused():
    with pytest.raises(EmptySupport, match="no labelled slice"):
        SupportSet.from_cases([make_case("a", [[[1]]], labelled=np.array([False]))])


def test_image_and_labels_on_different_grids_are_refused_with_both_grids():
    volume, _ = make_case("pat1", np.zeros((2, 2, 2)), spacing_mm=(1, 1, 1))
    _, labels = make_case("pat1", np.ones((2, 2, 2)), spacing_mm=(2, 1, 1))
    with pytest.raises(GeometryMismatch, match=r"pat1: .*1 x 1 x 1 mm.* 2 x 1 x 1 mm.*nearest neighbour"):
        SupportSet.from_cases([(volume, labels)])


def test_cases_know_their_patient_by_a_pattern_of_their_names():
    cases = [make_case(name, [[[1]]]) for name in ("p1_ED", "p1_ES", "p2_ED")]
    support = SupportSet.from_cases(cases).of_patients(lambda case: patient_in(case, "^p[0-9]+"))
    assert support.patients == {"p1_ED": "p1", "p1_ES": "p1", "p2_ED": "p2"}
    assert SupportSet.from_cases(cases).patients == {name: name for name in ("p1_ED", "p1_ES", "p2_ED")}
    assert support.digest == SupportSet.from_cases(cases).digest


def test_without_a_pattern_each_case_is_a_patient():
    assert patient_in("p1_ED", "") == "p1_ED"


@pytest.mark.parametrize(
    ("pattern", "told"), [("^q", "nowhere in the case name 'p1_ED'"), ("(", "no regular")]
)
def test_a_pattern_that_names_no_patient_is_refused(pattern, told):
    with pytest.raises(UsageError, match=told):
        patient_in("p1_ED", pattern)


def test_the_digest_ignores_names_and_order_but_not_content():
    one, two = make_case("a", [[[0, 1]]]), make_case("b", [[[1, 1]]])
    renamed = make_case("z", [[[0, 1]]])
    assert SupportSet.from_cases([one, two]).digest == SupportSet.from_cases([two, renamed]).digest
    assert SupportSet.from_cases([one]).digest != SupportSet.from_cases([two]).digest


def test_an_added_example_takes_the_place_of_the_same_slice():
    support = SupportSet.from_cases([make_case("a", [[[0, 1]]])])
    grown = support.adding(Example(np.zeros((1, 2), np.float32), np.array([[1, 1]], np.uint8), "a", 0))
    assert [e.labels.tolist() for e in grown.examples] == [[[1, 1]]]


def test_examples_remember_whether_they_have_millimetres():
    assert SupportSet.from_cases([make_case("a", [[[1]]], spacing_mm=(1, 1, 1))]).examples[0].in_mm
    assert not SupportSet.from_cases([make_case("a", [[[1]]])]).examples[0].in_mm


def test_a_support_of_some_examples_keeps_the_classes_those_show():
    support = SupportSet.from_cases([make_case("a", [[[1, 2]]]), make_case("b", [[[1, 0]]])])
    fewer = support.restricted([e for e in support.examples if e.case == "b"])
    assert (fewer.cases, fewer.classes) == (("b",), {1: "label 1"})


def test_labelled_slices_are_stacked_into_a_volume_again():
    volume, labels = make_case("a", [[[1, 2]], [[0, 2]], [[1, 0]]], np.array([True, False, True]), (5, 1, 1))
    support = SupportSet.from_cases([(volume, labels)])
    again, truth = stacked(support.examples, "A", {2: "two"})
    assert again.name == "a"
    assert again.voxels.tolist() == [[[10, 20]], [[10, 0]]]
    assert truth.labels.tolist() == [[[0, 2]], [[0, 0]]]
    assert (again.grid.spacing, again.grid.directions) == ((5, 1, 1), "AIL")
