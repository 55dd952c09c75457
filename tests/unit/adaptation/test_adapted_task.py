"""Adaptation as part of a fit, and of the task it leaves."""

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from builders import make_subject
from fakes import FakeBackbone
from small import make_backbone
from unprompted import Adaptation, FittedSegmenter, Segmenter
from unprompted.backbones.adapted import Adapted
from unprompted.errors import UnreadableFile, UsageError, WeightsUnavailable
from unprompted.loading import make_method
from unprompted.support import SupportSet

CASES = [make_subject((2, 64, 64), classes=2, seed=seed) for seed in range(3)]


def fit(backbone, settings):
    method = make_method("sam2-mask", {"supports": 1})
    return Segmenter(method, backbone, adaptation=settings).fit(CASES)


@pytest.fixture(scope="module")
def fitted(single_thread, easy):
    task = fit(make_backbone(), replace(easy, steps=12, checks=1))
    assert task.adapted.tensors, "the checks need a change that helps"
    return task


@pytest.fixture
def saved(fitted, tmp_path):
    fitted.save(tmp_path)
    return tmp_path


def test_the_method_runs_on_the_adapted_backbone(fitted):
    assert fitted.backbone is fitted.adapted.backbone
    assert fitted.adapted.base_digest == make_backbone().digest != fitted.backbone.digest
    query, _ = make_subject((2, 64, 64), classes=2, seed=7)
    assert fitted.segment(query).provenance.weights_sha256 == fitted.backbone.digest


def test_a_loaded_task_has_the_same_weights_and_gives_the_same_masks(fitted, saved):
    loaded = FittedSegmenter.load(saved, backbone=make_backbone())
    assert loaded.backbone.digest == fitted.backbone.digest
    query, _ = make_subject((2, 64, 64), classes=2, seed=7)
    expected, found = fitted.segment(query), loaded.segment(query)
    assert expected.labels.labels.any()
    np.testing.assert_array_equal(found.labels.labels, expected.labels.labels)
    np.testing.assert_array_equal(found.quality, expected.quality)


def test_a_loaded_task_can_be_saved_again(fitted, saved, tmp_path):
    FittedSegmenter.load(saved, backbone=make_backbone()).save(tmp_path / "again")
    again = FittedSegmenter.load(tmp_path / "again", backbone=make_backbone())
    assert again.backbone.digest == fitted.backbone.digest


def test_the_description_names_the_weights_that_were_given(fitted, saved):
    told = json.loads((saved / "task.json").read_text())
    assert told["adapted"] == fitted.backbone.digest != told["weights_sha256"]
    assert told["weights_sha256"] == make_backbone().digest
    with pytest.raises(WeightsUnavailable, match=r"fitted with weights .* of small"):
        FittedSegmenter.load(saved, backbone=fitted.backbone)


def test_a_task_that_gained_nothing_is_saved_and_loaded_too(easy, tmp_path):
    still = replace(easy, learning_rate=0.0, steps=1, checks=1, judged=1)
    fit(make_backbone(), still).save(tmp_path)
    loaded = FittedSegmenter.load(tmp_path, backbone=make_backbone())
    assert loaded.backbone.digest == make_backbone().digest
    assert loaded.adapted.tensors == {}


def test_a_task_without_adaptation_leaves_no_tensors_of_an_older_one(saved):
    fit(make_backbone(), Adaptation()).save(saved)
    assert not (saved / "adapted.safetensors").exists()
    assert FittedSegmenter.load(saved, backbone=make_backbone()).adapted is None


def test_a_task_from_before_adaptation_has_none(tmp_path):
    fit(make_backbone(), Adaptation()).save(tmp_path)
    told = json.loads((tmp_path / "task.json").read_text())
    del told["adapted"]
    (tmp_path / "task.json").write_text(json.dumps(told))
    assert FittedSegmenter.load(tmp_path, backbone=make_backbone()).adapted is None


@pytest.mark.parametrize("kept", [None, 0.0, 0.5, 0.95])
def test_lost_or_truncated_tensors_are_refused(saved, kept):
    path = saved / "adapted.safetensors"
    whole = path.read_bytes()
    path.unlink()
    if kept is not None:
        path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(UnreadableFile, match="holds no fitted task"):
        FittedSegmenter.load(saved, backbone=make_backbone())


def test_tensors_of_another_model_are_refused(saved):

    other = make_backbone(channels=128).model.state_dict()
    save_file({name: value.contiguous() for name, value in other.items()}, saved / "adapted.safetensors")
    with pytest.raises(UnreadableFile, match="tensors have no place in the model"):
        FittedSegmenter.load(saved, backbone=make_backbone())


def test_a_backbone_that_cannot_be_adapted_is_refused(single_thread):
    with pytest.raises(UsageError, match="fake cannot be adapted"):
        fit(FakeBackbone(), Adaptation(steps=1))


def test_adapted_weights_of_another_task_are_refused(saved):
    path = saved / "adapted.safetensors"
    changed = {name: value + 0.5 for name, value in load_file(path).items()}
    save_file(changed, path)
    with pytest.raises(UnreadableFile, match=r"adapted\.safetensors is not the one it describes"):
        FittedSegmenter.load(saved, backbone=make_backbone())


@pytest.mark.parametrize("name", ["sam2-mask", "ofl-sam2"])
def test_another_method_uses_the_trained_weights_of_a_task(fitted, saved, name, tmp_path):
    method = make_method(name, {"learner": False} if name == "ofl-sam2" else {})
    task = Segmenter(method, make_backbone(), adapters=saved).fit(CASES)
    assert task.backbone.digest == fitted.backbone.digest
    task.save(tmp_path / "other")
    loaded = FittedSegmenter.load(tmp_path / "other", backbone=make_backbone())
    assert loaded.backbone.digest == fitted.backbone.digest


def test_the_adapters_of_a_task_are_swapped(fitted, saved, tmp_path):
    fit(make_backbone(), Adaptation()).save(tmp_path / "plain")
    swapped = FittedSegmenter.load(tmp_path / "plain", backbone=make_backbone(), adapters=saved)
    assert swapped.backbone.digest == fitted.backbone.digest
    again = FittedSegmenter.load(tmp_path / "plain", backbone=make_backbone())
    assert again.backbone.digest == make_backbone().digest


def test_adapters_of_a_task_without_any_are_refused(tmp_path):
    fit(make_backbone(), Adaptation()).save(tmp_path)
    with pytest.raises(UsageError, match="has no trained weights"):
        Segmenter("sam2-mask", make_backbone(), adapters=tmp_path).fit(CASES)


def test_adapters_for_other_weights_are_refused(fitted, saved):
    with pytest.raises(WeightsUnavailable, match="was fitted with weights"):
        Segmenter("sam2-mask", make_backbone(channels=128), adapters=saved).fit(CASES)


def test_adapters_are_not_adapted_again(saved):
    with pytest.raises(UsageError, match="leave --adapt or --adapters out"):
        Segmenter("sam2-mask", make_backbone(), adaptation=Adaptation(steps=1), adapters=saved).fit(CASES)


def test_a_method_that_trains_the_backbone_is_not_adapted_too():
    twice = Segmenter("sam2-sgp", make_backbone(), adaptation=Adaptation(steps=1))
    with pytest.raises(UsageError, match="the method trains the backbone itself"):
        twice.fit(CASES)


def test_cases_to_train_on_are_trained_on_and_stay_out_of_memory(monkeypatch):
    seen = []

    def noted(backbone, support, *_, **__):
        seen.append(support)
        return Adapted(backbone, backbone.digest, {})

    monkeypatch.setattr("unprompted.methods.sam2_sgp.adapt", noted)
    more = SupportSet.from_cases([make_subject((2, 64, 64), classes=2, seed=s) for s in (2, 5, 6)])
    support = SupportSet.from_cases(CASES)
    task = Segmenter("sam2-sgp", make_backbone()).fit(support, training=more)
    assert len(seen[0]) == 10  # of five cases: subject 2 is in both
    assert task.support.digest == support.digest


def test_cases_to_train_on_are_refused_where_nothing_is_trained():
    more = SupportSet.from_cases(CASES)
    with pytest.raises(UsageError, match="nothing trains the backbone here"):
        Segmenter("sam2-mask", make_backbone()).fit(CASES, training=more)
