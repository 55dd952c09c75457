from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

from fakes import FakeBackbone
from small import make_support, without
from unprompted.methods.sam2_mask import Sam2Mask
from unprompted.refinement.examples import Gathering, parts_of
from unprompted.refinement.settings import Refinement


@dataclass(frozen=True)
class Spy(Sam2Mask):
    """sam2-mask that notes which cases it was given."""

    given: ClassVar = []

    def prepare(self, backbone, support, learned):
        self.given.append(sorted(set(support.cases)))
        return super().prepare(backbone, support, learned)


def gathering(support, method=None, **settings):
    chosen = Refinement(steps=1, **settings)
    return Gathering(method or Sam2Mask(), FakeBackbone(), support, {}, chosen, side=64)


def silent(what, done, of):
    pass


def test_the_support_is_parted_by_cases():
    assert parts_of(make_support(cases=3, slices=2, size=64)) == [[0, 1], [2, 3], [4, 5]]


def test_all_cases_of_a_patient_are_one_part():
    support = replace(make_support(cases=3, slices=1, size=64), patients=(0, 1, 1))
    assert parts_of(support) == [[0], [1, 2]]


def test_a_single_case_is_parted_into_halves():
    assert parts_of(make_support(cases=1, slices=5, size=64)) == [[0, 1], [2, 3, 4]]


def test_a_single_frame_cannot_be_parted():
    assert parts_of(make_support(cases=1, slices=1, size=64)) == []


def test_there_are_no_parts_where_one_alone_shows_a_class():
    support = make_support(cases=2, slices=2, size=64)
    assert parts_of(without(support, [(0, 2)])) == []


def test_masks_of_a_part_are_drawn_from_the_others_alone():
    support, method = make_support(cases=3, slices=2, size=64), Spy()
    method.given.clear()
    gathered = gathering(support, method)
    parts = parts_of(support)
    for own in parts:
        gathered.part(own, parts, silent)
    assert method.given == [[1, 2], [0, 2], [0, 1]]


def test_every_frame_of_a_part_comes_once_and_in_order():
    support = make_support(cases=2, slices=3, size=64)
    parts = parts_of(support)
    found = gathering(support).part(parts[1], parts, silent)
    assert len(found) == 3
    for n, example in enumerate(found):
        assert torch.equal(example.labels, support.labels[[3 + n]])
        assert example.shows == {0, 1}
        torch.testing.assert_close(
            example.reading.pixels[:, :3].float(), support.pixels[[3 + n]], atol=1e-3, rtol=0
        )


def test_labels_come_at_a_multiple_of_the_side_that_is_worked_on():
    support = make_support(cases=2, slices=1, size=64)
    parts = parts_of(support)
    sides = {side: replace(gathering(support), side=side).part(parts[0], parts, silent) for side in (32, 48)}
    assert {side: found[0].labels.shape for side, found in sides.items()} == {
        32: (1, 64, 64),
        48: (1, 48, 48),
    }
    assert torch.unique(sides[48][0].labels).tolist() == [0, 1, 2]


def brightness_beside(support, frame, case=0):
    parts = parts_of(support)
    found = gathering(support).part(parts[case], parts, silent)
    return found[parts[case].index(frame)].reading.pixels[0, 3:].float()


def grey(support, frame):
    return support.pixels[frame].mean(dim=0)


def test_a_slice_is_read_with_the_brightness_of_those_before_and_after_it():
    support = make_support(cases=2, slices=3, size=64)
    expected = torch.stack([grey(support, 0), grey(support, 2)])
    torch.testing.assert_close(brightness_beside(support, 1), expected, atol=1e-3, rtol=0)


def test_the_first_slice_of_a_case_has_itself_before_it_not_the_case_before():
    support = make_support(cases=2, slices=3, size=64)
    expected = torch.stack([grey(support, 3), grey(support, 4)])
    torch.testing.assert_close(brightness_beside(support, 3, case=1), expected, atol=1e-3, rtol=0)


def test_slices_that_are_not_next_to_each_other_are_no_neighbours():
    support = make_support(cases=2, slices=2, size=64)
    apart = replace(support, positions=(0, 5, 0, 5))
    expected = torch.stack([grey(support, 0), grey(support, 0)])
    torch.testing.assert_close(brightness_beside(apart, 0), expected, atol=1e-3, rtol=0)


def test_classes_that_a_case_is_not_labelled_for_are_not_asked_of_it():
    support = without(make_support(cases=3, slices=1, size=64), [(1, 2)])
    parts = parts_of(support)
    asked = [gathering(support).part(own, parts, silent)[0].asked.tolist() for own in parts]
    assert asked == [[[True, True]], [[True, False]], [[True, True]]]


@pytest.mark.parametrize(("examples", "frames"), [(3, 1), (6, 2), (288, 6)])
def test_frames_are_bounded_and_evenly_spaced(examples, frames):
    support = make_support(cases=3, slices=6, size=64)
    parts = parts_of(support)
    assert len(gathering(support, examples=examples).part(parts[0], parts, silent)) == frames
