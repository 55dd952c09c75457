"""Settings of ofl-sam2, its learner and its two memories, frame by frame."""

from dataclasses import replace

import pytest
import torch

from fakes import FakeBackbone
from ofl import AS_PUBLISHED, QUICK, first_step, pooled_of, silent
from unprompted.errors import UsageError
from unprompted.methods.base import Place
from unprompted.methods.ofl_blend import Blend
from unprompted.methods.ofl_sam2 import OflSam2
from unprompted.methods.similarity import LevelL1
from unprompted.methods.support_memory import cosine


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
