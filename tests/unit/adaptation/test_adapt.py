import random
from dataclasses import replace

import pytest
import torch

from fakes import FakeBackbone
from small import make_backbone, make_support, without
from unprompted.adaptation import adapt as module
from unprompted.adaptation.adapt import adapt
from unprompted.adaptation.processes import Processes
from unprompted.adaptation.settings import Adaptation
from unprompted.backbones.adapted import restored
from unprompted.backbones.weights import parameters_digest
from unprompted.errors import UsageError
from unprompted.training.checkpoint import Checkpoint


class Scripted:
    """Stands for a tuner: scores are given, a step costs a second, and every step is written down."""

    def __init__(self, scores=(0.1, 0.2, 0.3, 0.4, 0.5)):
        self.scores, self.trained, self.judged = list(scores), [], []
        self.step, self.now, self.lost = 0, 0.0, False
        self.source = random.Random(0)
        self.processes = Processes.of("no", torch.device("cpu"))

    def __call__(self, backbone, support, settings, seed, objective):
        self.backbone = backbone
        return self

    def clock(self):
        return self.now

    def train(self, cases, spent):
        self.trained.append(cases)
        self.step += 1
        self.now += 1

    def forget(self):
        pass

    def score(self, cases):
        self.judged.append(cases)
        return self.scores.pop(0)

    def state(self):
        return {"step": self.step}

    def restore(self, state):
        self.lost = self.step > state["step"]
        self.step = state["step"]

    def averaged(self):
        return f"averaged after {self.step}"

    def tensors(self):
        return {"steps": torch.tensor(self.step)}


@pytest.fixture
def run(monkeypatch, backbone, support):
    """Adapts with a scripted tuner: gives what came of it and the tuner."""

    def of(settings, scores=(0.1, 0.2, 0.3, 0.4, 0.5), frames=support, progress=lambda *_: None):
        tuner = Scripted(scores)
        monkeypatch.setattr(module, "Tuner", tuner)
        return adapt(backbone, frames, settings, 0, progress, clock=tuner.clock), tuner

    return of


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


def test_training_raises_the_score_of_the_case_left_out(adapted):
    before, *_, after = [dice for _, _, dice in adapted.history]
    assert after > before + 0.3
    assert adapted.backbone.digest != adapted.base_digest


def test_the_given_backbone_stays_as_it_is(backbone, adapted):
    assert adapted.base_digest == backbone.digest == parameters_digest(backbone.model)
    assert parameters_digest(make_backbone().model) == backbone.digest
    assert not backbone.model.training
    assert not any(p.requires_grad for p in backbone.model.parameters())


def test_the_adapted_backbone_is_ready_for_inference(adapted):
    assert adapted.backbone.name == "small"
    assert not adapted.backbone.model.training
    assert not any(p.requires_grad for p in adapted.backbone.model.parameters())


def test_equal_seed_and_steps_give_equal_weights(backbone, support, easy, adapted):
    torch.manual_seed(99)  # not that anybody should ask the global generator
    again = adapt(backbone, support, easy, seed=0)
    assert same(again.tensors, adapted.tensors)
    assert again.backbone.digest == adapted.backbone.digest


def test_what_changed_makes_the_same_backbone_again(adapted):
    again = restored(make_backbone(), adapted.tensors)
    assert again.backbone.digest == adapted.backbone.digest
    assert again.base_digest == adapted.base_digest


def test_large_backbones_keep_low_rank_changes_alone(backbone, support, easy, monkeypatch):
    scores = iter((0.1, 0.2))  # as if it had helped: a random backbone is not saved by low rank
    monkeypatch.setattr(module.Tuner, "score", lambda tuner, cases: next(scores))
    few = replace(easy, whole_below=0, rank=2, steps=2, checks=1)
    adapted = adapt(backbone, support, few, seed=0)
    assert adapted.backbone.digest != backbone.digest
    assert all(".lora_" in name for name in adapted.tensors)
    assert not any("lora" in name for name in adapted.backbone.model.state_dict())
    assert restored(make_backbone(), adapted.tensors).backbone.digest == adapted.backbone.digest


def test_where_nothing_is_gained_the_given_backbone_comes_back(backbone, support, easy):
    still = replace(easy, learning_rate=0.0, steps=2, checks=1, judged=1)
    adapted = adapt(backbone, support, still, seed=0)
    assert adapted.backbone is backbone
    assert (adapted.tensors, adapted.steps) == ({}, 0)
    assert restored(backbone, {}).backbone.digest == backbone.digest


def test_the_random_generator_stays_as_it_was(backbone, support, easy):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    adapt(backbone, support, replace(easy, steps=1, checks=1, judged=1, whole_below=0), seed=0)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("slices", [1, 2])
def test_one_labelled_case_is_enough(backbone, easy, slices):
    alone = make_support(cases=1, slices=slices)
    adapted = adapt(backbone, alone, replace(easy, steps=2, checks=1, judged=1), seed=0)
    assert len(adapted.history) == 2


def test_a_backbone_that_cannot_be_trained_is_refused(support, easy):
    with pytest.raises(UsageError, match="fake cannot be adapted; use a SAM2 backbone"):
        adapt(FakeBackbone(), support, easy, seed=0)
    with pytest.raises(UsageError, match="fake cannot be adapted"):
        restored(FakeBackbone(), {})


def test_tensors_of_another_model_are_refused(adapted):
    with pytest.raises(KeyError, match="tensors have no place in the model"):
        restored(make_backbone(channels=128), adapted.tensors)


@pytest.mark.parametrize(("settings", "told"), [({"seconds": -1.0}, "-1 s"), ({"steps": -2}, "-2 steps")])
def test_a_negative_budget_is_refused(settings, told):
    with pytest.raises(UsageError, match=told):
        Adaptation(**settings)


def test_a_budget_of_nothing_is_none():
    assert not Adaptation()
    assert Adaptation(seconds=1)
    assert Adaptation(steps=1)


def test_a_budget_of_steps_is_spent_exactly(run):
    adapted, tuner = run(Adaptation(steps=21))
    assert len(tuner.trained) == adapted.steps == 21
    assert [steps for _, steps, _ in adapted.history] == [0, 3, 6, 8, 11]  # 21 / 8 steps a check, rounded up
    assert adapted.backbone == "averaged after 21"


def test_of_two_budgets_the_one_spent_first_counts(run):
    assert run(Adaptation(steps=8, seconds=40.0))[0].steps == 8
    assert run(Adaptation(steps=40, seconds=8.0))[0].steps == 8


def test_a_budget_of_time_ends_by_the_clock(run):
    adapted, tuner = run(Adaptation(seconds=40.0))
    assert len(tuner.trained) == adapted.steps == 40
    assert [seconds for seconds, _, _ in adapted.history] == [0, 5, 10, 15, 20]


def test_a_case_is_left_out_for_half_the_budget_and_joins_then(run):
    _, tuner = run(Adaptation(steps=16))
    assert tuner.trained == [[0, 1]] * 8 + [[0, 1, 2]] * 8
    assert tuner.judged == [[2]] * 5


def test_of_many_cases_a_fifth_is_left_out(run):
    _, tuner = run(Adaptation(steps=8), frames=make_support(cases=10, slices=1))
    assert tuner.judged[0] == [8, 9]
    assert tuner.trained[0] == [0, 1, 2, 3, 4, 5, 6, 7]


def test_all_cases_of_a_patient_are_left_out_together(run):
    frames = replace(make_support(cases=5, slices=1), patients=(0, 0, 1, 2, 2))
    _, tuner = run(Adaptation(steps=4), frames=frames)
    assert tuner.judged[0] == [3, 4]
    assert tuner.trained[0] == [0, 1, 2]


def test_of_a_single_patient_a_case_is_left_out(run):
    _, tuner = run(Adaptation(steps=4), frames=replace(make_support(cases=2, slices=1), patients=(0, 0)))
    assert (tuner.trained[0], tuner.judged[0]) == ([0], [1])


def test_a_case_without_any_label_is_neither_trained_on_nor_left_out(run, support):
    _, tuner = run(Adaptation(steps=8), frames=without(support, [(2, 1), (2, 2)]))
    assert tuner.trained == [[0]] * 4 + [[0, 1]] * 4
    assert tuner.judged == [[1]] * 5


def test_without_gain_training_ends_early(run):
    adapted, tuner = run(Adaptation(steps=16), scores=(0.5, 0.5, 0.4))  # two checks of patience
    assert len(tuner.trained) == 4
    assert (adapted.tensors, adapted.steps, len(adapted.history)) == ({}, 0, 3)
    assert adapted.backbone is tuner.backbone


def test_training_goes_on_from_the_best_state_for_as_many_steps_again(run):
    scores = (0.1, 0.6, 0.5, 0.4)  # best after 4 steps; the next 8 did harm
    adapted, tuner = run(Adaptation(steps=32), scores)
    assert tuner.lost
    assert len(tuner.trained) == 12 + 4
    assert adapted.steps == 8
    assert int(adapted.tensors["steps"]) == 8


def test_the_share_of_the_budget_is_told(run):
    told = []
    run(Adaptation(steps=4), progress=lambda *step: told.append(step))
    assert {(what, of) for what, _, of in told} == {("adapting", 100)}
    shares = [share for _, share, _ in told]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 100)


class Stops(Exception):
    """Training is killed."""


@pytest.mark.parametrize("killed_at", [4, 11])
def test_training_that_was_stopped_goes_on_to_the_same_weights(
    backbone, support, easy, adapted, tmp_path, killed_at, monkeypatch
):
    checkpoint = Checkpoint(tmp_path / "training.pt")
    settings = replace(easy, steps=12)
    whole = adapt(backbone, support, settings, seed=0)
    train = module.Tuner.train

    def until(tuner, cases, spent):
        if tuner.step == killed_at:
            raise Stops
        train(tuner, cases, spent)

    monkeypatch.setattr(module.Tuner, "train", until)
    with pytest.raises(Stops):
        adapt(backbone, support, settings, seed=0, checkpoint=checkpoint)
    assert checkpoint.path.is_file()
    monkeypatch.setattr(module.Tuner, "train", train)
    again = adapt(backbone, support, settings, seed=0, checkpoint=checkpoint)
    assert whole.tensors
    assert same(again.tensors, whole.tensors)
    assert [row[1:] for row in again.history] == [row[1:] for row in whole.history]
    assert not checkpoint.path.exists()


def test_a_checkpoint_of_another_fit_is_not_used(backbone, support, easy, tmp_path):
    checkpoint = Checkpoint(tmp_path / "training.pt")
    settings = replace(easy, steps=2, checks=1)
    checkpoint.save({"made_by": {"seed": 1}})
    found = adapt(backbone, support, settings, seed=0, checkpoint=checkpoint)
    assert same(found.tensors, adapt(backbone, support, settings, seed=0).tensors)


def test_a_checkpoint_of_other_labelled_cases_is_not_used(monkeypatch, backbone, tmp_path):
    checkpoint = Checkpoint(tmp_path / "training.pt")

    def trained(frames, tuner):
        monkeypatch.setattr(module, "Tuner", tuner)
        adapt(backbone, frames, Adaptation(steps=8), 0, clock=tuner.clock, checkpoint=checkpoint)

    class Stopped(Scripted):
        def score(self, cases):
            if len(self.judged) == 2:
                raise KeyboardInterrupt
            return super().score(cases)

    with pytest.raises(KeyboardInterrupt):
        trained(make_support(cases=3, slices=1), Stopped())
    assert checkpoint.load()["course"]["check"] == 1
    afresh = Scripted()
    trained(make_support(cases=4, slices=1), afresh)
    assert len(afresh.judged) == 5  # the check before training, and four more


def test_a_damaged_checkpoint_is_no_checkpoint(tmp_path):
    checkpoint = Checkpoint(tmp_path / "training.pt")
    assert checkpoint.load() is None
    checkpoint.path.write_bytes(b"half a file")
    assert checkpoint.load() is None


def test_mixed_precision_trains_other_weights_that_still_segment(backbone, support, easy, adapted):
    mixed = adapt(backbone, support, replace(easy, precision="bf16"), seed=0)
    assert max(dice for _, _, dice in mixed.history) > mixed.history[0][2] + 0.3
    assert not same(mixed.tensors, adapted.tensors)
