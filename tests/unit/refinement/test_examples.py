import random
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

from fakes import FakeBackbone
from small import make_support, without
from unprompted.methods.sam2_mask import Sam2Mask
from unprompted.refinement.examples import Gathering, parts_of
from unprompted.refinement.settings import Refinement
from unprompted.training.augment import UNCHANGED


@dataclass(frozen=True)
class Spy(Sam2Mask):
    """sam2-mask that notes which cases it was given."""

    given: ClassVar = []

    def prepare(self, backbone, support, learned):
        self.given.append(sorted(set(support.cases)))
        return super().prepare(backbone, support, learned)


def gathering(support, method=None, **settings):
    chosen = Refinement(steps=1, **settings)
    return Gathering(method or Sam2Mask(), FakeBackbone(), support, {}, chosen, random.Random(0))


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


def test_every_frame_comes_as_it_is_and_in_changed_copies():
    support = make_support(cases=2, slices=2, size=64)
    parts = parts_of(support)
    found = gathering(support, examples=12).part(parts[0], parts, silent)
    assert [e.copy for e in found] == [0, 1, 2, 0, 1, 2]
    assert torch.equal(found[0].labels, support.labels[:1])
    assert not torch.equal(found[1].labels, support.labels[:1])
    assert found[0].shows == {0, 1}


def test_copies_that_change_nothing_equal_the_frame():
    support = make_support(cases=2, slices=1, size=64)
    parts = parts_of(support)
    frame, copy, *_ = gathering(support, augmentation=UNCHANGED).part(parts[0], parts, silent)
    for name in ("fine", "middle", "coarse", "pixels", "logits"):
        given, changed = getattr(frame.reading, name).float(), getattr(copy.reading, name).float()
        torch.testing.assert_close(changed, given, atol=0.02, rtol=0.02)


def test_classes_that_a_case_is_not_labelled_for_are_not_asked_of_it():
    support = without(make_support(cases=3, slices=1, size=64), [(1, 2)])
    parts = parts_of(support)
    asked = [gathering(support).part(own, parts, silent)[0].asked.tolist() for own in parts]
    assert asked == [[[True, True]], [[True, False]], [[True, True]]]


@pytest.mark.parametrize(("examples", "frames"), [(9, 1), (18, 2), (216, 6)])
def test_frames_are_bounded_and_evenly_spaced(examples, frames):
    support = make_support(cases=3, slices=6, size=64)
    parts = parts_of(support)
    found = gathering(support, examples=examples).part(parts[0], parts, silent)
    assert len([e for e in found if e.copy == 0]) == frames
