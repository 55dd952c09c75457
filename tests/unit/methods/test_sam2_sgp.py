import random
from dataclasses import replace

import pytest
import torch

from builders import dice, make_subject
from fakes import FakeBackbone
from small import make_backbone, make_support
from unprompted.adaptation.objective import Drawn
from unprompted.adaptation.settings import Adaptation
from unprompted.adaptation.tuner import Tuner
from unprompted.backbones.base import MemoryBank
from unprompted.backbones.prior import prior_attention_of
from unprompted.backbones.sam2 import Sam2Backbone
from unprompted.engine.frames import support_frames
from unprompted.errors import UsageError
from unprompted.intensity import Intensity
from unprompted.methods.base import Place
from unprompted.methods.sam2_sgp import Sam2Sgp
from unprompted.methods.sgp_guidance import Guidance, PseudoMaskObjective
from unprompted.methods.similarity import LevelL1
from unprompted.segmenter import FittedSegmenter, Segmenter
from unprompted.support import SupportSet
from unprompted.training.augment import UNCHANGED

FREE = Sam2Sgp(training=False)
QUICK = Sam2Sgp(
    epochs=4, steps_per_epoch=8, seconds=200, learning_rate=3e-3, supports=2, rank=4, augmentation=UNCHANGED
)


class Boxed(FakeBackbone):
    """Writes down what it was prompted with."""

    def __init__(self):
        super().__init__()
        self.prompts = []

    def decode(self, fused, features, prompt=None):
        self.prompts.append(prompt)
        return super().decode(fused, features, prompt)


def frames(cases=2, slices=3, classes=2):
    support = SupportSet.from_cases(
        [make_subject((slices, 64, 64), classes=classes, seed=seed) for seed in range(cases)]
    )
    return support_frames(support, Intensity.decide(support), 64)


def step_on(method, pixels, support=None, backbone=None, at=Place(0, 0, 1), bank=None):  # noqa: B008
    backbone = backbone or FakeBackbone()
    fitted = method.prepare(backbone, support or frames(), {})
    state, empty = method.begin(fitted, torch.zeros(5, 16), 0)
    (features,) = backbone.encode(pixels)
    return method.step(backbone, state, features, bank or empty, at)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"supports": 0}, "supports is 0; give 1 to 16"),
        ({"supports": 17}, "supports is 17; give 1 to 16"),
        ({"rank": -1}, "rank -1"),
        ({"temperature": 0.0}, "temperature 0"),
        ({"epochs": 0}, "0 epochs of 20 steps in 480 s train nothing"),
        ({"rank": 0, "heads": False, "pma": False}, "leave nothing to train"),
        ({"candidates": "best"}, "use all or shown"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        Sam2Sgp(**settings)


def test_a_mask_is_decoded_twice_the_second_time_under_its_own_box_and_pseudo_mask():
    support, backbone = frames(classes=1), Boxed()
    step_on(FREE, support.pixels[[0]], support, backbone)
    first, second = backbone.prompts
    assert first is None
    ys, xs = (support.labels[0] == 1).nonzero().T
    box = torch.tensor([xs.min(), ys.min(), xs.max(), ys.max()]).float()
    assert second.boxes.shape == (1, 4)
    assert (second.boxes[0] - box).abs().max() <= 4  # the fake decodes in blocks of 8 pixels
    assert second.prior.shape == (1, 1, 16, 16)
    assert 0 <= second.prior.min() <= second.prior.max() <= 1


def test_without_pseudo_mask_attention_the_box_alone_guides():
    backbone = Boxed()
    step_on(replace(FREE, pma=False), frames().pixels[[0]], backbone=backbone)
    assert backbone.prompts[1].prior is None
    assert backbone.prompts[1].boxes is not None


def test_without_a_box_the_pseudo_mask_alone_guides():
    backbone = Boxed()
    step_on(replace(FREE, box="none"), frames().pixels[[0]], backbone=backbone)
    assert backbone.prompts[1].boxes is None
    assert backbone.prompts[1].prior is not None


def test_without_either_there_is_one_decoding():
    backbone = Boxed()
    step_on(replace(FREE, box="none", pma=False), frames().pixels[[0]], backbone=backbone)
    assert backbone.prompts == [None]


def test_where_the_pseudo_mask_is_empty_there_is_no_box_and_no_second_decoding():
    backbone = Boxed()
    step = step_on(FREE, torch.zeros(1, 3, 64, 64), backbone=backbone)
    assert not (step.decoded.logits > 0).any()
    assert backbone.prompts == [None]


class Planted(Boxed):
    """Its first decoding finds a square of the first object and nothing of the second."""

    def decode(self, fused, features, prompt=None):
        if prompt is not None:
            return super().decode(fused, features, prompt)
        masks = torch.zeros(2, 64, 64)
        masks[0, 8:24, 16:40] = 1
        return self.adopt(features, masks)


def test_objects_without_a_pseudo_mask_keep_their_first_decoding():
    backbone, support = Planted(), frames()
    found = step_on(replace(FREE, margin=0.0), support.pixels[[0]], support, backbone).decoded
    assert backbone.prompts[0].boxes.tolist() == [[16, 8, 39, 23]]
    assert found.logits[1].unique().tolist() == [-10]
    assert found.presence[1] == -10
    assert not torch.equal(found.logits[0].unique(), torch.tensor([-10.0, 10.0]))  # decoded again


def test_the_most_similar_supports_are_retrieved_and_always_the_same():
    support = frames(cases=4)
    for planted in (0, 5, 7):
        chosen = [step_on(replace(FREE, supports=2), support.pixels[[planted]], support).chosen for _ in "ab"]
        assert chosen[0] == chosen[1]
        assert (chosen[0][0].case, chosen[0][0].position) == (
            support.cases[planted],
            support.positions[planted],
        )
        assert len(chosen[0]) == 2 * 2  # two supports for each of two classes


def test_predictions_are_remembered_only_with_3d_memory():
    pixels = frames().pixels[[0]]
    assert step_on(FREE, pixels).entry is not None
    assert step_on(replace(FREE, volumetric=False), pixels).entry is None


def test_at_most_six_earlier_predictions_are_attended_beside_the_supports():
    seen = []

    class Attending(FakeBackbone):
        def attend(self, features, recall, objects):
            seen.append([slot for slot, _ in recall.tokens])
            return super().attend(features, recall, objects)

    support = frames()
    entry = step_on(FREE, support.pixels[[0]], support).entry
    bank = MemoryBank(recent={position: entry for position in range(10)})
    step_on(FREE, support.pixels[[0]], support, Attending(), Place(10, 0, 1), bank)
    assert seen == [[0, 0, 0, 0, 6, 5, 4, 3, 2, 1]]


def objective(**changes):
    settings = {"rank": 4, "heads": True, "temperature": 0.5, "steps_per_epoch": 10, **changes}
    return PseudoMaskObjective(Guidance("largest", 0.05, True), LevelL1(16), **settings)


@pytest.fixture(scope="module")
def small(single_thread):
    return make_backbone()


def trained_names(small, **changes):
    backbone = make_backbone()
    objective(**changes).trained(backbone.model, None, 0)
    return {n for n, p in backbone.model.named_parameters() if p.requires_grad}


def test_adapters_heads_and_strengths_are_trained_and_the_trunk_is_frozen(small):
    names = trained_names(small)
    trunk = {n for n in names if n.startswith("vision_encoder.backbone.")}
    assert trunk
    assert all(".lora_" in n for n in trunk)
    rest = {n.split(".")[0] for n in names - trunk}
    assert {"memory_encoder", "memory_attention", "mask_decoder", "prompt_encoder"} <= rest
    assert "mask_decoder.prior_attention.bias" in names


def test_each_part_of_training_is_switched_off_alone(small):
    assert not any(".lora_" in n for n in trained_names(small, rank=0))
    lean = trained_names(small, heads=False)
    assert {n.partition("prior_attention")[0] for n in lean if ".lora_" not in n} == {"mask_decoder."}


def test_support_is_drawn_in_proportion_to_the_exponential_of_similarity():
    """Scores 0 and 1 have a standard deviation of 0.707: at temperature 1 odds are e^1.414 = 4.11 to 1."""
    source, drawn = random.Random(0), []
    for _ in range(4000):
        drawn.append(objective(temperature=1.0).draw([7, 9], {7: 0.0, 9: 1.0}, 1, source)[0])
    assert drawn.count(9) / len(drawn) == pytest.approx(4.11 / 5.11, abs=0.02)


def test_a_draw_holds_every_frame_of_the_pool_once():
    pool = list(range(6))
    found = objective().draw(pool, {f: float(f) for f in pool}, 2, random.Random(1))
    assert sorted(found) == pool
    assert objective().draw([3], {3: 1.0}, 2, random.Random(1)) == [3]


@pytest.fixture
def rows(small):
    """Two rows of one frame: conditioned features and their true masks."""
    support = make_support(cases=1, slices=1)
    (features,) = small.encode(support.pixels)
    target = torch.nn.functional.avg_pool2d(support.masks(0).float()[:, None], 4)[:, 0]
    levels = tuple(level.expand(2, -1, -1, -1) for level in features.levels)
    return replace(features, levels=levels), features.levels[2].expand(2, -1, -1, -1), target


@pytest.mark.parametrize(("step", "share"), [(0, 0.5), (9, 0.5), (10, 0.475), (20, 0.45125)])
def test_the_pseudo_mask_counts_less_epoch_by_epoch(small, rows, monkeypatch, step, share):
    """With losses of 1 for the first decoding and 0 for the second, the loss is the share of the first."""
    features, fused, target = rows
    planted_ = torch.full((2, 1, 128, 128), -5.0)
    planted_[..., 10:60, 20:70] = 5.0
    first = small.decode(fused, features)
    monkeypatch.setattr(
        Sam2Backbone, "choose", lambda *_: replace(first, logits_full=planted_, presence=torch.ones(2, 1))
    )
    losses = iter((torch.tensor(1.0), torch.tensor(0.0)))
    monkeypatch.setattr("unprompted.methods.sgp_guidance.candidate_loss", lambda *_: next(losses))
    found = objective().loss(small, features, fused, target, Drawn(step, random.Random(0)))
    assert float(found) == pytest.approx(share)


def test_masks_that_are_not_decoded_again_are_final_as_they_are(small, rows, monkeypatch):
    """One of two rows is decoded again: the final loss is the mean of both rows."""
    features, fused, target = rows
    planted_ = torch.full((2, 1, 128, 128), -5.0)
    planted_[0, :, 10:60, 20:70] = 5.0
    first = small.decode(fused, features)
    monkeypatch.setattr(Sam2Backbone, "choose", lambda *_: replace(first, logits_full=planted_))
    sizes = []

    def loss(candidates, wanted):
        sizes.append((len(candidates.logits), len(wanted)))
        return torch.tensor({1: 1.0, 2: 2.0, 3: 4.0}[len(sizes)])  # of all first, again, the rest

    monkeypatch.setattr("unprompted.methods.sgp_guidance.candidate_loss", loss)
    found = objective().loss(small, features, fused, target, Drawn(0, random.Random(0)))
    assert sizes == [(2, 2), (1, 1), (1, 1)]
    assert float(found) == 0.5 * (2.0 + 4.0) / 2 + 0.5 * 1.0


def test_a_backbone_without_weights_cannot_be_trained():
    with pytest.raises(UsageError, match="fake cannot be adapted"):
        Sam2Sgp().adapt(FakeBackbone(), frames(), 0, lambda *_: None)


CASES = [make_subject((3, 64, 64), classes=2, seed=seed) for seed in range(2)]
THIRD = make_subject((3, 64, 64), classes=2, seed=7)


@pytest.fixture(scope="module")
def fitted(single_thread):
    return Segmenter(QUICK, make_backbone()).fit(CASES)


def mean_dice(task):
    volume, labels = THIRD
    found = task.segment(volume).labels.labels
    return (dice(found, labels.labels, 1) + dice(found, labels.labels, 2)) / 2


def test_training_on_two_cases_beats_the_training_free_method_on_a_third(fitted):
    free = Segmenter(replace(QUICK, training=False), make_backbone()).fit(CASES)
    assert mean_dice(fitted) > mean_dice(free) + 0.2


@torch.no_grad()
def loss_of(backbone):
    """Mean loss over the same episodes, whatever the weights."""
    tuner = Tuner(backbone, make_support(cases=2), Adaptation(frames=4), 0, objective())
    view = tuner.views[128]
    return sum(float(tuner._loss(view, tuner._draw([0, 1]), [0, 1])) for _ in range(4)) / 4


def test_training_lowers_the_loss(fitted):
    assert loss_of(fitted.backbone) < loss_of(make_backbone()) - 0.2


def test_training_raises_the_dice_of_the_case_left_out(fitted):
    before, *_, after = [dice for _, _, dice in fitted.adapted.history]
    assert after > before


def test_strengths_of_the_pseudo_mask_are_learned(fitted):
    strengths = prior_attention_of(fitted.backbone.model)
    assert all(float(p.abs().max()) > 0 for p in strengths.parameters())


def test_a_trained_task_saved_and_loaded_gives_the_same_masks(fitted, tmp_path):
    fitted.save(tmp_path)
    assert (tmp_path / "adapted.safetensors").is_file()
    loaded = FittedSegmenter.load(tmp_path, make_backbone())
    assert loaded.backbone.digest == fitted.backbone.digest
    expected, found = fitted.segment(THIRD[0]), loaded.segment(THIRD[0])
    assert found.labels.labels.tobytes() == expected.labels.labels.tobytes()
