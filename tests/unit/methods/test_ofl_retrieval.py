"""Which support frames ofl-sam2 gives a frame, and what they say of a class."""

from dataclasses import replace

import pytest
import torch

from fakes import FakeBackbone
from ofl import QUICK, first_step, pooled_of
from unprompted.methods.base import Place, SupportFrames
from unprompted.methods.similarity import LevelL1
from unprompted.methods.support_memory import cosine


def test_a_sequence_starts_at_the_frame_most_like_the_support(support):
    method = replace(QUICK, learner=False)
    fitted = method.prepare(FakeBackbone(), support, {})
    like = FakeBackbone().encode(support.pixels[3:4])[0].pooled
    unlike = 0.1 * torch.randn(5, 16, generator=torch.Generator().manual_seed(0))
    pooled = torch.cat([unlike[:4], like[None], unlike[4:]])
    assert method.start(fitted, pooled) == 4
    assert replace(method, retrieval="none").start(fitted, pooled) == 0


def test_without_retrieval_the_query_does_not_choose_the_support(support, query):
    method = replace(QUICK, learner=False, retrieval="none", retrieved=2)
    fitted = method.prepare(FakeBackbone(), support, {})
    state, bank = method.begin(fitted, pooled_of(query), 0)
    assert state.wanted.tolist() == [[0, 0], [9, 9]]  # both ends of the ten frames, for both classes
    _, other = method.begin(fitted, torch.randn(4, 16), 0)
    assert all(torch.equal(a.tokens, b.tokens) for a, b in zip(bank.support, other.support, strict=True))


def test_support_is_retrieved_anew_for_every_frame_or_once_a_sequence(support, query):
    def recalled(retrieval):
        """Support tokens that each of two unlike frames of one sequence attends to."""
        method, backbone = replace(QUICK, learner=False, update=False, retrieval=retrieval), Attending()
        fitted = method.prepare(backbone, support, {})
        frames = backbone.encode(support.pixels[[0, 7]])
        state, bank = method.begin(fitted, pooled_of(frames), 0)
        for at, features in enumerate(frames):
            method.step(backbone, state, features, bank, Place(at, 0, 1))
        first, second = backbone.read
        assert len(first) == len(second) == 3
        return first, second

    def same(retrieval):
        return all(torch.equal(a, b) for a, b in zip(*recalled(retrieval), strict=True))

    assert not same("frame")
    assert same("sequence")
    assert same("none")


class Attending(FakeBackbone):
    """Keeps the memory tokens that every frame attended to."""

    def __init__(self):
        super().__init__()
        self.read = []

    def attend(self, features, recall, objects):
        self.read.append([tokens for _, tokens in recall.tokens])
        return super().attend(features, recall, objects)


@pytest.mark.parametrize("measure", ["l1", "cosine", "perceptual"])
def test_retrieval_finds_a_support_frame_that_is_asked_for_again(support, measure):
    method = replace(QUICK, learner=False, similarity=measure)
    again = FakeBackbone().encode(support.pixels)
    nearest = [first_step(method, support, again, {}, at)[0].chosen[0] for at in range(10)]
    assert [(c.case, c.position) for c in nearest] == [(case, z) for case in (0, 1) for z in range(5)]


def make_partly_empty_support(shown, cases):
    """Random frames; frame n shows the objects ``shown[n]`` of two, each in its own quarter column."""
    pixels = torch.rand(len(shown), 3, 64, 64, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(len(shown), 64, 64, dtype=torch.uint8)
    for n, row in enumerate(shown):
        for k in row:
            labels[n, 16:48, 16 * k : 16 * k + 16] = k + 1
    return SupportFrames(pixels, labels, 2, cases, tuple(range(len(shown))))


def step_on_support_frame(method, support, frame):
    again = FakeBackbone().encode(support.pixels[[frame]])
    return first_step(replace(method, learner=False), support, again, {})[0]


def found(step):
    return (step.decoded.logits > 0).flatten(1).any(dim=1).tolist()


def test_a_class_that_a_retrieved_frame_does_not_show_is_remembered_as_absent():
    support = make_partly_empty_support([[0, 1], [0], []], cases=(0, 0, 0))
    nearest = replace(QUICK, retrieved=1)
    assert found(step_on_support_frame(nearest, support, 0)) == [True, True]
    step = step_on_support_frame(nearest, support, 1)
    assert [(c.object, c.position) for c in step.chosen] == [(0, 1), (1, 1)]
    assert found(step) == [True, False]
    assert found(step_on_support_frame(nearest, support, 2)) == [False, False]


def test_among_frames_that_show_a_class_it_is_never_remembered_as_absent():
    support = make_partly_empty_support([[0, 1], [0], []], cases=(0, 0, 0))
    only_shown = replace(QUICK, retrieved=1, candidates="shown")
    fitted = only_shown.prepare(FakeBackbone(), support, {})
    assert fitted.memory.entries.keys() == {(0, 0), (0, 1), (1, 0)}
    for frame in range(3):
        chosen = step_on_support_frame(only_shown, support, frame).chosen
        assert chosen[0].position in (0, 1)
        assert chosen[1].position == 0


def test_a_case_that_never_shows_a_class_says_nothing_about_it():
    support = make_partly_empty_support([[0], [], [1], []], cases=(0, 0, 1, 1))
    fitted = QUICK.prepare(FakeBackbone(), support, {})
    assert fitted.memory.entries.keys() == {(0, 0), (1, 0), (2, 1), (3, 1)}
    chosen = step_on_support_frame(replace(QUICK, retrieved=1), support, 0).chosen
    assert [(c.object, c.case) for c in chosen] == [(0, 0), (1, 1)]


def test_the_learner_is_fitted_only_to_frames_that_show_the_class():
    support = make_partly_empty_support([[0, 1], [0], []], cases=(0, 0, 0))
    fitted = QUICK.prepare(FakeBackbone(), support, {})
    assert fitted.memory.entries.keys() == {(n, k) for n in range(3) for k in range(2)}
    assert fitted.shown.entries.keys() == {(0, 0), (0, 1), (1, 0)}
    query = FakeBackbone().encode(support.pixels[[2]])  # most like the frame without any class
    state, _ = QUICK.begin(fitted, pooled_of(query), 0)
    assert set(state.wanted[:, 0].tolist()) == {0, 1}
    assert state.wanted[:, 1].tolist() == [0, 0, 0]


def test_the_pool_bounds_the_support_frames_held(support):
    fitted = replace(QUICK, pool=3).prepare(FakeBackbone(), support, {})
    assert fitted.memory.frames == (0, 4, 9)


@pytest.mark.parametrize("retrieval", ["frame", "sequence"])
def test_the_support_of_a_frame_is_told_with_its_scores(support, query, learned, retrieval):
    step, state, _ = first_step(replace(QUICK, retrieval=retrieval), support, query, learned, at=1)
    assert [c.object for c in step.chosen] == [0, 0, 0, 1, 1, 1]
    memory = state.fitted.memory
    if retrieval == "frame":
        scores = LevelL1(16).scores(LevelL1(16).describe(query[1]), memory.described)
    else:
        scores = cosine(query[1].pooled[None], memory.pooled)[0]
    place = memory.origins.index((step.chosen[0].case, step.chosen[0].position, 0))
    assert step.chosen[0].score == pytest.approx(float(scores[place]), abs=1e-5)


def test_without_retrieval_nothing_is_told(support, query, learned):
    step, _, _ = first_step(replace(QUICK, retrieval="none"), support, query, learned)
    assert step.chosen == ()
