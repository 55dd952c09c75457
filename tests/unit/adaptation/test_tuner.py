from dataclasses import replace

import pytest
import torch

from small import make_backbone, make_support, without
from unprompted.adaptation.adapt import adapt
from unprompted.adaptation.tuner import Tuner


def low_masks(support, frame):
    """True masks of a frame as large as those that are decoded."""
    return torch.nn.functional.avg_pool2d(support.masks(frame).float()[:, None], 4)[:, 0] > 0.5


@pytest.fixture
def tuner_of(backbone, easy):
    def of(support, **changes):
        return Tuner(backbone, support, replace(easy, **changes), seed=0)

    return of


def test_another_seed_trains_other_weights(backbone, support, easy):
    first, again, other = (Tuner(backbone, support, easy, seed) for seed in (0, 0, 1))
    for tuner in (first, again, other):
        tuner.train([0, 1], 0.0)
    assert all(torch.equal(first.average[name], again.average[name]) for name in first.average)
    assert any(not torch.equal(first.average[name], other.average[name]) for name in first.average)


def test_a_restored_state_is_the_one_that_was_kept(tuner_of, support):
    tuner = tuner_of(support)
    tuner.train([0, 1], 0.0)
    kept, digest = tuner.state(), tuner.averaged().digest
    tuner.train([0, 1], 0.0)
    assert tuner.averaged().digest != digest
    tuner.restore(kept)
    assert (tuner.averaged().digest, tuner.step) == (digest, 1)


def test_query_frames_are_of_the_given_cases_alone(tuner_of, support):
    tuner = tuner_of(support, frames=50)
    assert {support.cases[frame] for frame, _ in tuner._draw([0, 2])} == {0, 2}


def test_at_most_so_many_classes_are_asked_of_a_frame(tuner_of, support):
    assert {len(objects) for _, objects in tuner_of(support, classes=1, frames=20)._draw([0])} == {1}


def test_a_class_that_a_case_never_shows_is_not_asked_of_it(tuner_of, support):
    partly = without(support, [(0, 1), (1, 2)])  # case 0 shows the second class alone, case 1 the first
    tuner = tuner_of(partly, frames=50)
    drawn = {(partly.cases[frame], tuple(objects)) for frame, objects in tuner._draw([0, 1, 2])}
    assert drawn == {(0, (1,)), (1, (0,)), (2, (0, 1))}


def test_a_class_that_a_case_shows_elsewhere_may_be_asked_of_it_as_absent(tuner_of):
    support = make_support(cases=2, slices=2)
    labels = support.labels.clone()
    labels[1][labels[1] == 2] = 0  # the second slice of the first case, not the first
    drawn = tuner_of(replace(support, labels=labels), frames=50)._draw([0])
    assert (1, [0, 1]) in drawn


def test_the_score_is_the_mean_dice_over_classes(tuner_of, support, monkeypatch):
    tuner, first = tuner_of(support, judged=1), torch.tensor([[[True]], [[False]]])
    monkeypatch.setattr(tuner, "_masks", lambda view, frame: low_masks(support, frame) & first)
    assert tuner.score([2]) == 0.5  # one class found as it is, the other not at all


def test_the_score_leaves_out_classes_that_the_case_is_not_labelled_for(tuner_of, support, monkeypatch):
    partly = without(support, [(2, 2)])
    tuner = tuner_of(partly, judged=1)
    monkeypatch.setattr(
        tuner, "_masks", lambda view, frame: low_masks(support, frame)
    )  # finds the second class too
    assert tuner.score([2]) == 1.0


@pytest.fixture
def recalled(tuner_of, monkeypatch):
    """The cases and frames of support that a frame is given, over many draws."""

    def of(support, frame, objects, cases):
        tuner, seen = tuner_of(support), set()
        known = {k: None for k in range(support.objects)}

        def noted(view, chosen, in_training):
            seen.add(chosen)
            return known

        monkeypatch.setattr(tuner, "_remembered", noted)
        for _ in range(20):
            tuner._recalled(tuner.views[128], frame, objects, cases)
        return seen

    return of


def test_support_comes_from_other_cases(recalled, support):
    assert recalled(support, 0, [0, 1], [0, 1, 2]) <= {2, 3, 4, 5}
    assert recalled(support, 0, [0, 1], None) <= {2, 3, 4, 5}


def test_another_case_of_the_same_patient_is_no_support(recalled, support):
    of_two = replace(support, patients=(0, 0, 0, 0, 1, 1))
    assert recalled(of_two, 0, [0, 1], [0, 1, 2]) <= {4, 5}


def test_the_case_left_out_is_no_support_either(recalled, support):
    assert recalled(support, 0, [0, 1], [0, 1]) == {2, 3}
    assert recalled(support, 0, [0, 1], [0]) == {1}  # the only case in training supports itself


def test_a_frame_supports_itself_only_where_no_other_tells(recalled, support):
    partly = without(support, [(1, 2), (2, 2)])  # the second class is shown in the first case alone
    assert recalled(partly, 0, [1], [0, 1, 2]) == {1}
    alone = make_support(cases=1, slices=1)
    assert recalled(alone, 0, [0], [0]) == {0}


def test_most_steps_run_at_half_the_input_size(easy, single_thread):
    support = make_support(cases=2, slices=1, size=256)
    backbone = make_backbone(256)
    tuner = Tuner(backbone, support, replace(easy, half_share=1.0, frames=1, classes=1), seed=0)
    assert sorted(tuner.views) == [128, 256]
    assert tuner.views[128].support.pixels.shape[-2:] == (128, 128)
    half, full = (dict(tuner.views[size].backbone.model.named_parameters()) for size in (128, 256))
    assert all(half[name] is full[name] for name in full)
    before = tuner.averaged().digest
    tuner.train([0, 1], 0.0)
    assert tuner.views[128].entries
    assert not tuner.views[256].entries
    assert tuner.averaged().digest != before
    assert tuner.averaged().input_size == 256


@pytest.mark.parametrize("changes", [{}, {"whole_below": 0}])
def test_no_input_below_the_smallest_is_trained_on(tuner_of, support, changes):
    assert list(tuner_of(support, **changes).views) == [128]


def test_half_the_input_size_leaves_the_random_generator_as_it_was(easy, single_thread):
    support, backbone = make_support(cases=1, slices=1, size=256), make_backbone(256)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    adapt(backbone, support, replace(easy, steps=1, checks=1, frames=1, half_share=1.0), seed=0)
    assert torch.equal(torch.rand(1), expected)
