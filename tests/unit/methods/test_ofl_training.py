"""What ofl-sam2 learns offline, and where its learner is judged."""

import random
from dataclasses import replace

import torch

from builders import make_subject
from fakes import FakeBackbone
from ofl import QUICK, silent
from unprompted.engine.frames import support_frames
from unprompted.intensity import Intensity
from unprompted.methods.base import SupportFrames
from unprompted.methods.ofl_blend import Blend
from unprompted.methods.ofl_training import Trainer
from unprompted.support import SupportSet


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


def test_training_attends_to_other_cases_when_every_frame_retrieves(support):
    method = replace(QUICK, retrieved=1)
    fitted = method.prepare(FakeBackbone(), support, {})
    trainer = Trainer(method, FakeBackbone(), support, fitted.memory, fitted.blend)
    (features,) = FakeBackbone().encode(support.pixels[[2]])  # itself a frame of the first case
    (entry,) = trainer._alike(features, 0, [0])
    of_the_second = [fitted.memory.entries[n, 0].tokens for n in range(5, 10)]
    assert any(torch.equal(entry.tokens, tokens) for tokens in of_the_second)


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
