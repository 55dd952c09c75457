from dataclasses import replace

import pytest
import torch

from fakes import FakeBackbone
from unprompted.backbones.base import MemoryBank
from unprompted.errors import UsageError
from unprompted.methods.base import Place, SupportFrames
from unprompted.methods.fate_sam import FateSam, known

FIRST = Place(0, 0, 1)


def make_support(shown, cases=None, objects=None):
    """Random frames; frame n shows the objects ``shown[n]``, each in its own quarter column."""
    pixels = torch.rand(len(shown), 3, 64, 64, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(len(shown), 64, 64, dtype=torch.uint8)
    for n, row in enumerate(shown):
        for k in row:
            labels[n, 16:48, 16 * k : 16 * k + 16] = k + 1
    objects = objects or max(k for row in shown for k in row) + 1
    return SupportFrames(pixels, labels, objects, cases or (0,) * len(shown), tuple(range(len(shown))))


def step_on(method, support, frame, at=FIRST, bank=None):
    """The step on a query slice equal to a support frame."""
    backbone = FakeBackbone()
    fitted = method.prepare(backbone, support, {})
    state, empty = method.begin(fitted, torch.zeros(9, 16), at.start)
    (features,) = backbone.encode(support.pixels[[frame]])
    return method.step(backbone, state, features, bank or empty, at)


def found(step):
    return (step.decoded.logits_full[:, 0] > 0).flatten(1).any(dim=1).tolist()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"retrieved": 0}, "retrieved is 0"),
        ({"pool": 0}, "pool 0"),
        ({"candidates": "best"}, "use all, labelled or shown"),
        ({"similarity": "best"}, "similarity is 'best'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        FateSam(**settings)


def test_defaults_are_those_of_the_paper():
    assert (FateSam().retrieved, FateSam().similarity, FateSam().volumetric) == (3, "l1", True)


def test_nothing_is_learned():
    assert FateSam().train(FakeBackbone(), make_support([[0]]), 0, print) == {}


@pytest.mark.parametrize("measure", ["l1", "cosine", "perceptual"])
def test_the_planted_nearest_slice_is_retrieved_first(measure):
    support = make_support([[0]] * 5)
    for planted in range(5):
        chosen = step_on(FateSam(similarity=measure), support, planted).chosen
        assert chosen[0].position == planted
        assert len(chosen) == 3


def test_a_slice_without_the_organ_may_stay_empty():
    support = make_support([[0], [], [0], []])
    nearest = FateSam(retrieved=1)
    assert found(step_on(nearest, support, 1)) == [False]
    assert found(step_on(nearest, support, 0)) == [True]


def test_as_published_a_slice_without_the_organ_gets_slices_that_show_it():
    support = make_support([[0], [], [0], []])
    for candidates in ("labelled", "shown"):
        chosen = step_on(FateSam(retrieved=1, candidates=candidates), support, 1).chosen
        assert chosen[0].position in (0, 2)


def test_all_classes_retrieve_the_same_slices_and_may_be_absent_there():
    support = make_support([[0], [1], [0, 1]])
    step = step_on(FateSam(retrieved=1, candidates="labelled"), support, 0)
    assert [(c.object, c.position) for c in step.chosen] == [(0, 0), (1, 0)]
    assert found(step) == [True, False]


def test_on_request_each_class_retrieves_slices_that_show_it():
    support = make_support([[0], [1], [1]])
    chosen = step_on(FateSam(retrieved=1, candidates="shown"), support, 0).chosen
    assert chosen[0].position == 0
    assert chosen[1].position in (1, 2)


def test_a_case_that_never_shows_a_class_tells_nothing_about_it():
    support = make_support([[0], [], [1], []], cases=(0, 0, 1, 1))
    assert known(support).tolist() == [[True, False], [True, False], [False, True], [False, True]]
    chosen = step_on(FateSam(retrieved=1), support, 0).chosen
    assert [c.case for c in chosen] == [0, 1]


def test_the_pool_holds_slices_of_each_class_and_as_many_without_any():
    support = make_support([[0]] * 5 + [[]] * 5)
    fitted = FateSam(pool=3).prepare(FakeBackbone(), support, {})
    assert fitted.frames == (0, 2, 4, 5, 7, 9)
    fitted = FateSam(pool=3, candidates="labelled").prepare(FakeBackbone(), support, {})
    assert fitted.frames == (0, 2, 4)


def test_the_sweep_begins_in_the_middle():
    assert FateSam().start(None, torch.zeros(9, 16)) == 4
    assert FateSam().start(None, torch.zeros(1, 16)) == 0


def test_the_slices_before_are_remembered_unless_switched_off():
    support = make_support([[0]] * 3)
    assert step_on(FateSam(), support, 0).entry is not None
    assert step_on(FateSam(volumetric=False), support, 0).entry is None


def test_anatomical_and_volumetric_memory_lie_side_by_side():
    support = make_support([[0]] * 3)
    method, backbone = FateSam(retrieved=2), FakeBackbone()
    fitted = method.prepare(backbone, support, {})
    first = fitted.entries[0, 0]
    read = []

    class Listening(FakeBackbone):
        def attend(self, features, recall, objects):
            read.extend(slot for slot, _ in recall.tokens)
            return super().attend(features, recall, objects)

    (features,) = backbone.encode(support.pixels[[0]])
    bank = MemoryBank().remembering(3, first).remembering(4, first)
    method.step(Listening(), fitted, features, bank, Place(5, 0, 1))
    assert read == [0, 0, 2, 1]  # two retrieved, then the slices two and one steps back


def test_equal_slices_are_retrieved_in_the_order_of_the_support():
    support = make_support([[0]] * 4)
    same = replace(support, pixels=support.pixels[:1].expand(4, -1, -1, -1))
    assert [c.position for c in step_on(FateSam(), same, 0).chosen] == [0, 1, 2]
