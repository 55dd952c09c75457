import json
from dataclasses import replace

import numpy as np
import pytest

from builders import make_subject
from fakes import FakeBackbone
from unprompted.engine.views import Views
from unprompted.errors import UnreadableFile, UsageError, WeightsUnavailable
from unprompted.loading import make_method
from unprompted.segmenter import FittedSegmenter, Segmenter

pytestmark = pytest.mark.usefixtures("single_thread")


def make_task(folder, method="sam2-mask", **how):
    method = make_method(method, {"epochs": 1, "steps_per_epoch": 1} if method == "ofl-sam2" else {})
    fitted = Segmenter(method, FakeBackbone()).fit([make_subject(classes=2)], **how)
    fitted.save(folder)
    return fitted


def load(folder):
    return FittedSegmenter.load(folder, backbone=FakeBackbone())


@pytest.mark.parametrize("method", ["sam2-mask", "ofl-sam2"])
def test_a_loaded_task_is_the_saved_one(tmp_path, method):
    fitted, loaded = make_task(tmp_path, method, seed=6), load(tmp_path)
    assert loaded.method == fitted.method
    assert loaded.support.digest == fitted.support.digest
    assert loaded.support.classes == fitted.support.classes
    assert [vars(e).keys() for e in loaded.support.examples] == [
        vars(e).keys() for e in fitted.support.examples
    ]
    assert (loaded.intensity, loaded.axis, loaded.seed) == (fitted.intensity, fitted.axis, 6)
    assert loaded.learned.keys() == fitted.learned.keys()
    assert all((loaded.learned[name] == fitted.learned[name]).all() for name in fitted.learned)


def test_a_loaded_task_predicts_the_same(tmp_path):
    query, _ = make_subject(classes=2, seed=5)
    expected = make_task(tmp_path, "ofl-sam2").segment(query)
    found = load(tmp_path).segment(query)
    assert (found.labels.labels == expected.labels.labels).all()
    assert (found.quality == expected.quality).all()


def test_the_task_is_json_arrays_and_tensors(tmp_path):
    make_task(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "learned.safetensors",
        "support.npz",
        "task.json",
    ]
    with np.load(tmp_path / "support.npz", allow_pickle=False) as stored:
        assert {stored[name].dtype.kind for name in stored.files} <= set("fub")


def test_the_description_tells_what_was_fitted(tmp_path):
    make_task(tmp_path, seed=6)
    told = json.loads((tmp_path / "task.json").read_text())
    assert (told["method"], told["backbone"], told["input_size"], told["seed"]) == (
        "sam2-mask",
        "fake",
        64,
        6,
    )
    assert told["classes"] == {"1": "organ 1", "2": "organ 2"}
    assert told["weights_sha256"] == FakeBackbone().digest


def test_a_task_is_saved_over_an_older_one(tmp_path):
    make_task(tmp_path, seed=1)
    make_task(tmp_path, seed=2)
    assert load(tmp_path).seed == 2


def test_other_weights_than_those_of_the_fit_are_refused(tmp_path):
    make_task(tmp_path)
    with pytest.raises(WeightsUnavailable, match=r"fitted with weights .* of fake"):
        FittedSegmenter.load(tmp_path, backbone=FakeBackbone(seed=1))


def test_a_folder_without_a_task_is_refused(tmp_path):
    with pytest.raises(UnreadableFile, match="holds no fitted task"):
        load(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["task.json", "support.npz", "learned.safetensors"])
def test_a_folder_that_lost_a_file_is_refused(tmp_path, name):
    make_task(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(UnreadableFile, match="holds no fitted task"):
        load(tmp_path)


@pytest.mark.parametrize("method", ["sam2-mask", "ofl-sam2"])
@pytest.mark.parametrize("name", ["task.json", "support.npz", "learned.safetensors"])
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.95])
def test_a_truncated_file_is_refused(tmp_path, name, kept, method):
    make_task(tmp_path, method)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(UnreadableFile, match="holds no fitted task"):
        load(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda told: told.pop("classes"),
        lambda told: told.pop("weights_sha256"),
        lambda told: told.pop("axis"),
        lambda told: told.pop("intensity"),
        lambda told: told["examples"].append({"case": "x", "position": 0, "depth": 1, "in_mm": True}),
        lambda told: told["examples"][0].pop("case"),
        lambda told: told.update(classes={"one": "liver"}),
        lambda told: told.update(examples=7),
        lambda told: told.update(views=7),
        lambda told: told["examples"][0].update(spacing=[1.0]),
        lambda told: told.update(format=2),
    ],
)
def test_a_description_that_does_not_fit_is_refused(tmp_path, change):
    make_task(tmp_path)
    told = json.loads((tmp_path / "task.json").read_text())
    change(told)
    (tmp_path / "task.json").write_text(json.dumps(told))
    with pytest.raises(UnreadableFile):
        load(tmp_path)


def test_a_task_from_before_views_has_none(tmp_path):
    make_task(tmp_path)
    told = json.loads((tmp_path / "task.json").read_text())
    del told["views"]
    for example in told["examples"]:
        del example["spacing"]
    (tmp_path / "task.json").write_text(json.dumps(told))
    assert load(tmp_path).views == Views()


def test_a_task_with_a_view_of_a_later_version_is_refused(tmp_path):
    make_task(tmp_path)
    told = json.loads((tmp_path / "task.json").read_text())
    (tmp_path / "task.json").write_text(json.dumps(told | {"views": ["flips", "dreams"]}))
    with pytest.raises(UsageError, match="no view is called dreams; known: flips"):
        load(tmp_path)


@pytest.mark.parametrize("content", ["[]", "7", "null", '"task"'])
def test_json_that_is_no_description_is_refused(tmp_path, content):
    make_task(tmp_path)
    (tmp_path / "task.json").write_text(content)
    with pytest.raises(UnreadableFile):
        load(tmp_path)


def test_the_support_of_another_task_is_refused(tmp_path):
    make_task(tmp_path / "a")
    other = Segmenter("sam2-mask", FakeBackbone()).fit([make_subject(classes=2, seed=1)])
    other.save(tmp_path / "b")
    (tmp_path / "a" / "support.npz").write_bytes((tmp_path / "b" / "support.npz").read_bytes())
    with pytest.raises(UnreadableFile, match="support is not the one it describes"):
        load(tmp_path / "a")


def test_a_save_that_fails_leaves_no_task_of_mixed_parts(tmp_path):
    fitted = make_task(tmp_path)
    broken = replace(fitted, learned={"x": "not a tensor"})
    with pytest.raises(AttributeError):
        broken.save(tmp_path)
    with pytest.raises(UnreadableFile):
        load(tmp_path)


@pytest.mark.parametrize("entry", ["weights_sha256", "settings", "refinement", "examples", "views"])
def test_an_entry_of_another_type_is_refused(tmp_path, entry):
    make_task(tmp_path)
    description = json.loads((tmp_path / "task.json").read_text()) | {entry: 7.5}
    (tmp_path / "task.json").write_text(json.dumps(description))
    with pytest.raises(UnreadableFile if entry != "weights_sha256" else WeightsUnavailable):
        load(tmp_path)
