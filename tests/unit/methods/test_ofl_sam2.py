import random
from dataclasses import replace

import pytest
import torch

from builders import make_subject
from fakes import FakeBackbone
from unprompted.engine.frames import support_frames
from unprompted.errors import UsageError
from unprompted.intensity import Intensity
from unprompted.methods.base import Place, SupportFrames
from unprompted.methods.ofl_blend import Blend
from unprompted.methods.ofl_sam2 import OflSam2
from unprompted.methods.ofl_training import Trainer
from unprompted.methods.similarity import LevelL1
from unprompted.methods.support_memory import cosine
from unprompted.support import SupportSet

QUICK = OflSam2(epochs=2, steps_per_epoch=2, sequence=2)
AS_PUBLISHED = replace(QUICK, retrieved=2, similarity="cosine", candidates="shown")


def silent(what, done, of):
    pass


@pytest.fixture(scope="module")
def support(single_thread):
    cases = SupportSet.from_cases([make_subject((5, 64, 64), classes=2, seed=seed) for seed in range(2)])
    return support_frames(cases, Intensity.decide(cases), 64)


@pytest.fixture(scope="module")
def query(single_thread):
    volume, _ = make_subject((4, 64, 64), classes=2, seed=9)
    pixels = torch.from_numpy(volume.voxels / 255).unsqueeze(1).expand(-1, 3, -1, -1)
    return FakeBackbone().encode(pixels)


@pytest.fixture(scope="module")
def learned(support):
    return QUICK.train(FakeBackbone(), support, 0, silent)


def pooled_of(query):
    return torch.stack([f.pooled for f in query])


def first_step(method, support, query, learned, at=0):
    """The step on one frame of a new sequence that starts there, and the state and bank before it."""
    backbone = FakeBackbone()
    fitted = method.prepare(backbone, support, learned)
    with torch.no_grad():
        state, bank = method.begin(fitted, pooled_of(query), at)
        return method.step(backbone, state, query[at], bank, Place(at, at, 1)), state, bank


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gamma": 1.01}, "gamma is 1.01"),
        ({"gamma": -0.1}, "gamma is -0.1"),
        ({"retrieved": 0}, "retrieved is 0"),
        ({"retrieval": "best"}, "use frame, sequence or none"),
        ({"similarity": "best"}, "similarity is 'best'; use perceptual, l1, cosine"),
        ({"candidates": "labelled"}, "candidates is 'labelled'; use all or shown"),
        ({"kernel": 2}, "odd number"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        OflSam2(**settings)


def test_defaults_are_those_of_the_paper_except_for_retrieval():
    method = OflSam2()
    assert (method.fit_iterations, method.update_iterations, method.gamma) == (10, 5, 0.8)
    assert (method.epochs, method.learning_rate) == (40, 1e-3)
    departing = (method.retrieved, method.retrieval, method.similarity, method.candidates)
    assert departing == (3, "frame", "l1", "all")  # paper: 2, once a case


def test_fusion_starts_with_equal_shares_of_both_branches():
    blend = Blend(objects=2, channels=16, width=8, kernel=3)
    attended, mapped = torch.randn(2, 16, 4, 4), torch.randn(2, 8, 4, 4)
    expected = 0.5 * attended + 0.5 * blend.lift(mapped)
    torch.testing.assert_close(blend.fuse(attended, mapped), expected)


def test_targets_are_standardised_with_support_statistics(support):
    method = replace(QUICK, epochs=0)
    learned = method.train(FakeBackbone(), support, 0, silent)
    fitted = method.prepare(FakeBackbone(), support, learned)
    targets = torch.cat([fitted.blend.standardised(e.tokens, 4) for e in fitted.memory.entries.values()])
    assert float(targets.mean(dim=(0, 2, 3)).abs().max()) < 1e-4
    torch.testing.assert_close(targets.std(dim=(0, 2, 3)), torch.ones(8), atol=1e-3, rtol=0)


def test_training_lowers_its_loss(support):
    def mean_loss(method, learned):
        backbone = FakeBackbone()
        fitted = method.prepare(backbone, support, learned)
        trainer = Trainer(method, backbone, support, fitted.memory, fitted.blend)
        with torch.no_grad():
            return sum(float(trainer.sequence_loss(random.Random(seed))) for seed in range(8)) / 8

    method = replace(QUICK, epochs=10, steps_per_epoch=3, learning_rate=1e-2)
    untrained = replace(method, epochs=0).train(FakeBackbone(), support, 0, silent)
    trained = method.train(FakeBackbone(), support, 0, silent)
    assert mean_loss(method, trained) < 0.9 * mean_loss(method, untrained)


def test_seeded_training_is_reproducible_to_the_bit(support, learned):
    torch.manual_seed(99)  # not that anybody should ask the global generator
    again = QUICK.train(FakeBackbone(), support, 0, silent)
    assert learned.keys() == again.keys()
    assert all(torch.equal(learned[name], again[name]) for name in learned)


def test_another_seed_trains_another_blend(support, learned):
    other = QUICK.train(FakeBackbone(), support, 1, silent)
    assert not torch.equal(learned["filters"], other["filters"])


def test_training_leaves_the_random_generator_as_it_was(support):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    QUICK.train(FakeBackbone(), support, 0, silent)
    assert torch.equal(torch.rand(1), expected)


def test_training_tells_how_far_it_is(support):
    told = []
    QUICK.train(FakeBackbone(), support, 0, lambda *step: told.append(step))
    assert told == [("training", 1, 4), ("training", 2, 4), ("training", 3, 4), ("training", 4, 4)]


def test_everything_offline_training_is_meant_to_change_changes(support, learned):
    untrained = replace(QUICK, epochs=0).train(FakeBackbone(), support, 0, silent)
    changed = {name for name in learned if not torch.equal(learned[name], untrained[name])}
    assert changed == {
        "filters", "ridge", "lift.weight", "lift.bias",
        "outer.weight", "outer.bias", "inner.weight", "inner.bias",
    }  # fmt: skip


def test_training_supports_a_query_with_other_cases_where_they_show_the_class(support):
    fitted = QUICK.prepare(FakeBackbone(), support, {})
    trainer = Trainer(QUICK, FakeBackbone(), support, fitted.memory, fitted.blend)
    of_the_first_case = [n for n, case in enumerate(support.cases) if case == 0]
    for seed in range(10):
        chosen = trainer._chosen_support(of_the_first_case[:2], [0, 1], random.Random(seed))
        assert all(support.cases[f] == 1 for f in chosen.flatten().tolist())


@pytest.mark.parametrize("published", [True, False])
def test_without_the_learner_nothing_is_trained_and_memory_attention_decides(support, query, published):
    method = replace(AS_PUBLISHED if published else QUICK, learner=False)
    assert method.train(FakeBackbone(), support, 0, silent) == {}
    step, state, bank = first_step(method, support, query, {})
    assert state.learner is None
    backbone = FakeBackbone()
    memory = method.prepare(backbone, support, {}).memory
    if published:
        scores = cosine(query[0].pooled[None], memory.pooled)[0]
    else:
        scores = LevelL1(16).scores(LevelL1(16).describe(query[0]), memory.described)
    wanted = memory.most_similar(scores, 2 if published else 3)
    recall = replace(bank, support=memory.compose(wanted)).recall(0, 0, 1)
    plain = backbone.decode(backbone.attend(query[0], recall, 2), query[0])
    assert torch.equal(step.decoded.logits, plain.logits)


def test_the_learner_changes_the_masks(support, query, learned):
    with_it, _, _ = first_step(QUICK, support, query, learned)
    without, _, _ = first_step(replace(QUICK, learner=False), support, query, learned)
    assert not torch.allclose(with_it.decoded.raw, without.decoded.raw, atol=1e-3)


def test_without_fusion_the_weight_is_the_constant_it_starts_from(support, query, learned):
    method = replace(QUICK, fusion=False)
    blend = method.prepare(FakeBackbone(), support, learned).blend
    attended, mapped = torch.randn(2, 16, 4, 4), torch.randn(2, 8, 4, 4)
    expected = 0.5 * attended + 0.5 * blend.lift(mapped)
    torch.testing.assert_close(method.blended(blend, attended, mapped), expected)
    assert not torch.allclose(QUICK.blended(blend, attended, mapped), expected, atol=1e-5)


@pytest.mark.parametrize("retrieved", [2, 3])
def test_the_learner_is_fitted_to_the_retrieved_support(support, query, learned, retrieved):
    _, state, bank = first_step(replace(QUICK, retrieved=retrieved), support, query, learned)
    assert len(bank.support) == retrieved
    assert state.learner.samples.support_weight.tolist() == [retrieved, retrieved]
    assert state.learner.samples.recent_weight.tolist() == [0, 0]
    assert not torch.equal(state.learner.filters, learned["filters"])


def test_an_accepted_frame_enters_both_memories(support, query, learned):
    step, before, _ = first_step(replace(QUICK, gamma=0.0), support, query, learned)
    shown = (step.decoded.logits > 0).flatten(1).any(dim=1)
    assert shown.all()
    assert step.entry is not None
    assert step.state.learner.samples.recent_weight.tolist() == [1, 1]
    assert not torch.equal(step.state.learner.filters, before.learner.filters)
    assert before.learner.samples.recent_weight.tolist() == [0, 0]


def test_a_frame_below_gamma_changes_nothing(support, query, learned):
    probe, _, _ = first_step(replace(QUICK, gamma=0.0), support, query, learned)
    above = min(1.0, float(probe.quality.max()) + 1e-3)
    step, before, _ = first_step(replace(QUICK, gamma=above), support, query, learned)
    assert step.entry is None
    assert step.state is before


def test_each_class_is_accepted_on_its_own(support, query, learned):
    probe, _, _ = first_step(replace(QUICK, gamma=0.0), support, query, learned)
    low, high = sorted(probe.quality.tolist())
    weak = int(probe.quality.argmin())
    between = replace(QUICK, gamma=(low + high) / 2)
    step, before, _ = first_step(between, support, query, learned)
    assert low < high
    was, now = before.learner, step.state.learner
    assert torch.equal(now.filters[weak], was.filters[weak])
    assert not torch.equal(now.filters[1 - weak], was.filters[1 - weak])
    assert now.samples.recent_weight[weak] == 0
    assert torch.equal(step.entry.tokens[:, weak], before.kept.tokens[:, weak])
    assert not torch.equal(step.entry.tokens[:, 1 - weak], before.kept.tokens[:, 1 - weak])


class NothingSeen(FakeBackbone):
    """Predicts every object present with full confidence, but nowhere in the frame."""

    def decode(self, fused, features, prompt=None):
        found = super().decode(fused, features, prompt)
        nowhere = torch.full_like(found.logits, -1.0)
        return replace(found, logits=nowhere, quality=torch.ones(2), presence=torch.full((2, 1), 9.0))


def test_a_mask_without_area_changes_nothing_however_confident(support, query, learned):
    backbone = NothingSeen()
    fitted = QUICK.prepare(backbone, support, learned)
    state, bank = QUICK.begin(fitted, pooled_of(query), 0)
    step = QUICK.step(backbone, state, query[0], bank, Place(0, 0, 1))
    assert float(step.quality.min()) > 0.99
    assert step.entry is None
    assert step.state is state


def test_without_update_no_frame_is_learned_from(support, query, learned):
    step, before, _ = first_step(replace(QUICK, gamma=0.0, update=False), support, query, learned)
    assert step.entry is None
    assert step.state is before


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


def test_training_attends_to_other_cases_when_every_frame_retrieves(support):
    method = replace(QUICK, retrieved=1)
    fitted = method.prepare(FakeBackbone(), support, {})
    trainer = Trainer(method, FakeBackbone(), support, fitted.memory, fitted.blend)
    (features,) = FakeBackbone().encode(support.pixels[[2]])  # itself a frame of the first case
    (entry,) = trainer._alike(features, 0, [0])
    of_the_second = [fitted.memory.entries[n, 0].tokens for n in range(5, 10)]
    assert any(torch.equal(entry.tokens, tokens) for tokens in of_the_second)


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


def three_cases():
    cases = SupportSet.from_cases([make_subject((4, 64, 64), classes=2, seed=seed) for seed in range(3)])
    return support_frames(cases, Intensity.decide(cases), 64)


def test_with_three_cases_the_last_is_judged_on_and_never_trained_on():
    support = three_cases()
    trainer = Trainer(QUICK, FakeBackbone(), support, QUICK.memory_of(FakeBackbone(), support), None)
    trained = {support.cases[f] for seed in range(20) for f in trainer._query(random.Random(seed), False)}
    judged = {support.cases[f] for seed in range(20) for f in trainer._query(random.Random(seed), True)}
    assert (trained, judged) == ({0, 1}, {2})


def test_two_cases_are_both_trained_and_judged_on(support):
    trainer = Trainer(QUICK, FakeBackbone(), support, QUICK.memory_of(FakeBackbone(), support), None)
    for judged in (False, True):
        assert {support.cases[f] for s in range(20) for f in trainer._query(random.Random(s), judged)} == {
            0,
            1,
        }


def test_a_learner_that_is_ignored_leaves_attended_features_as_they_are():
    blend = Blend(objects=1, channels=16, width=8, kernel=3)
    attended, mapped = torch.randn(1, 16, 4, 4), torch.randn(1, 8, 4, 4)
    blend.ignore_learner()
    assert torch.allclose(blend.fuse(attended, mapped), attended, atol=1e-5)


def test_leaving_a_case_out_changes_the_filters_unless_it_is_the_only_one():
    support = three_cases()
    method = QUICK
    memory = method.memory_of(FakeBackbone(), support)
    shown = memory.restricted(support.shows()[list(memory.frames)])
    blend = Blend(2, 16, 8, 3)
    blend.start_targets(shown)
    without = blend.start_filters(shown, support.cases)
    assert set(without) == {0, 1, 2}
    assert all(float(change.abs().max()) > 0 for change in without.values())
    one_case = SupportFrames(
        support.pixels[:4], support.labels[:4], 2, support.cases[:4], support.positions[:4]
    )
    alone = method.memory_of(FakeBackbone(), one_case)
    alone = alone.restricted(one_case.shows()[list(alone.frames)])
    assert float(blend.start_filters(alone, one_case.cases)[0].abs().max()) == 0  # nothing is left to fit to


def test_where_the_learner_does_harm_memory_attention_decides_alone(monkeypatch):
    support = three_cases()
    harmful = {16.0: 0.1}  # loss by the fusion's bias: only W = 1 is good

    def loss(trainer):
        return harmful.get(float(trainer.blend.outer.bias.detach()[0]), 1.0)

    monkeypatch.setattr(Trainer, "validation_loss", loss)
    learned = QUICK.train(FakeBackbone(), support, 0, silent)
    assert float(learned["outer.bias"].min()) == 16.0
