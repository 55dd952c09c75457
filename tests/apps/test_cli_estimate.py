import json

import pytest


@pytest.fixture
def only_one(case_folder):
    """A support of one picture-like volume: a single slice."""
    from unprompted.io.base import read_image, read_labels, write_labels
    from unprompted.io.nifti import write_volume

    folder = case_folder / "support"
    (folder / "images" / "labelled-2.nii.gz").unlink()
    (folder / "labels" / "labelled-2.nii.gz").unlink()
    image, labels = folder / "images" / "labelled-1.nii.gz", folder / "labels" / "labelled-1.nii.gz"
    volume, label_map = read_image(image), read_labels(labels)
    from unprompted.geometry import Grid
    from unprompted.images import LabelMap, Volume

    grid = Grid.with_spacing((1, *volume.grid.shape[1:]), volume.grid.spacing)
    write_volume(Volume(volume.voxels[:1], grid, name="labelled-1"), image)
    write_labels(LabelMap(label_map.labels[:1], grid, label_map.classes), labels, image)
    return folder


def test_the_expected_dice_is_printed_with_how_it_was_made(call, case_folder, fast):
    ended = call("estimate", "-s", case_folder / "support", *fast)
    assert ended.code == 0
    for words in ("expected Dice", "95 % range", "organ 1", "organ 2", "mean of classes", "s a case"):
        assert words in ended.out
    assert "with one support fewer than the real run has" in ended.out


def test_methods_are_compared_in_json(call, case_folder, tiny_model_folder):
    words = ("--backbone", tiny_model_folder, "--method", "sam2-mask,fate-sam", "--json")
    ended = call("estimate", "-s", case_folder / "support", *words)
    assert ended.code == 0
    content = json.loads(ended.out)
    assert [method["method"] for method in content["methods"]] == ["sam2-mask", "fate-sam"]
    assert content["best"] in ("sam2-mask", "fate-sam")
    assert [trial["case"] for trial in content["methods"][0]["trials"]] == ["labelled-1", "labelled-2"]


def test_cases_of_one_patient_are_left_out_together(call, case_folder, fast):
    words = ("estimate", "-s", case_folder / "support", *fast, "--json")
    apart = json.loads(call(*words).out)
    assert apart["split"] == "leave-one-out"
    together = json.loads(call(*words, "--patients", "^labelled").out)
    assert together["split"] == "split-half"  # both cases are one patient's
    ended = call(*words, "--patients", "^pat[0-9]")
    assert ended.code == 2
    assert "nowhere in the case name 'labelled-1'" in ended.err


def test_one_labelled_slice_gives_a_clear_refusal(call, only_one, fast):
    ended = call("estimate", "-s", only_one, *fast)
    assert ended.code == 2
    assert "label one more case to get an estimate" in ended.err


def test_settings_of_several_methods_are_refused(call, case_folder):
    words = ("--method", "auto", "--set", "supports=1")
    for command in (("estimate",), ("fit", "-o", case_folder / "task")):
        ended = call(*command, "-s", case_folder / "support", *words)
        assert ended.code == 2
        assert "settings belong to one method" in ended.err


def test_auto_takes_a_method_and_says_why(call, case_folder, tiny_model_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("unprompted.apps.batch.estimate.AUTO_CANDIDATES", ("fate-sam", "sam2-mask"))
    words = ("--backbone", tiny_model_folder, "--method", "auto")
    ended = call("fit", "-s", case_folder / "support", "-o", tmp_path / "task", *words)
    assert ended.code == 0
    assert "auto       tries fate-sam, sam2-mask on labelled cases left out" in ended.out
    (taken,) = [line.split()[2].rstrip(";") for line in ended.out.splitlines() if "auto       takes" in line]
    assert json.loads((tmp_path / "task" / "task.json").read_text())["method"] == taken


def test_auto_takes_the_default_where_nothing_can_be_left_out(call, only_one, tiny_model_folder, tmp_path):
    words = ("--backbone", tiny_model_folder, "--method", "auto", "--labels", "1")
    ended = call("segment", "-s", only_one, "-i", only_one.parent / "queries", "-o", tmp_path / "o", *words)
    assert ended.code == 0
    assert "auto       takes the default, ofl-sam2: one slice of labelled-1 cannot be split" in ended.out


def test_the_plan_says_that_the_method_will_be_chosen(call, case_folder, tmp_path):
    words = ("-i", case_folder / "queries", "-o", tmp_path / "out", "--method", "auto", "--dry-run")
    ended = call("segment", "-s", case_folder / "support", *words)
    assert ended.code == 0
    assert "method     the best on cases left out of ofl-sam2, fate-sam, sam2-mask" in ended.out
