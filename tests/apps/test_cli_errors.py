import json
import os
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

BAD_CALLS = [
    (
        ("--method", "ofl-sam3"),
        "no method is called 'ofl-sam3'; known: aug-match, fate-sam, fs-medsam2, ofl-sam2, sam2-mask",
    ),
    (("--set", "supports=many"), "supports: Input should be a valid integer"),
    (("--set", "supports=0"), "supports is 0; give at least 1"),
    (("--set", "colour=red"), "sam2-mask has no setting colour; it has supports"),
    (("--set", "supports"), "--set takes name=value, got 'supports'"),
    (("--settings", "nowhere.toml"), "nowhere.toml"),
    (("--labels", "spleen"), "no class is called 'spleen'; the labels have 1 organ 1, 2 organ 2"),
    (("--axis", "Z"), "slice axis 'Z' is unknown; use S (axial), A (coronal) or R (sagittal)"),
    (("--device", "cuda:99"), "device 'cuda:99' cannot be used"),
    (("--dtype", "float8"), "dtype is 'float8'; use float32 or bfloat16"),
    (
        ("--memory-pool", "3"),
        "memory pool is 3, but the 16 places a side of 256 pixels have to be a multiple",
    ),
    (("--input-size", "100"), "input size is 100, but a multiple of 32 from 128 to 1024 is needed"),
    (("--shots", "0"), "--shots is 0; at least 1 case is needed"),
    (("--task", "somewhere"), "give labelled cases with -s or a fitted task with -t; both given"),
    (("--seed", "first"), "Invalid value for '--seed'"),
    (("--colour",), "No such option: --colour"),
]


@pytest.fixture
def refused(call, case_folder, fast, tmp_path):
    """Calls `segment` on the folder, which must fail before it writes."""

    def of(*more):
        out = tmp_path / "out"
        words = ("segment", "-s", case_folder / "support", "-i", case_folder / "queries", "-o", out)
        ended = call(*words, *fast, *more)
        assert not list(out.glob("*.nii.gz"))
        assert "Traceback" not in ended.err
        return ended

    return of


def change_label(case_folder, change):
    path = case_folder / "support" / "labels" / "labelled-1.nii.gz"
    image = nib.load(path)
    changed = change(np.asarray(image.dataobj), image.affine)
    nib.save(nib.Nifti1Image(*changed), path)


@pytest.mark.parametrize(("words", "message"), BAD_CALLS)
def test_a_wrong_call_is_explained_and_exits_2(refused, words, message):
    ended = refused(*words)
    assert ended.code == 2
    assert message in ended.err
    assert ended.err.startswith("error: ")


def test_neither_support_nor_task_exits_2(call, tmp_path):
    ended = call("segment", "-i", tmp_path, "-o", tmp_path / "out")
    assert ended.code == 2
    assert "neither given" in ended.err


def test_a_missing_option_exits_2(call):
    assert call("segment").code == 2


def test_an_unknown_command_exits_2(call):
    ended = call("segmnt")
    assert ended.code == 2
    assert "No such command 'segmnt'" in ended.err


def test_image_and_label_on_different_grids_exit_3(refused, case_folder):
    change_label(case_folder, lambda labels, affine: (labels, affine + np.eye(4) * [5, 0, 0, 0]))
    ended = refused()
    assert ended.code == 3
    assert "labelled-1: the image has" in ended.err
    assert "but its labels have" in ended.err


def test_a_label_of_another_shape_exits_3(refused, case_folder):
    change_label(case_folder, lambda labels, affine: (labels[:-1], affine))
    ended = refused()
    assert ended.code == 3
    assert "labelled-1" in ended.err


def test_a_class_missing_in_every_support_case_exits_3(refused, case_folder):
    names = case_folder / "support" / "labels.json"
    names.write_text(json.dumps({"1": "organ 1", "2": "organ 2", "3": "spleen"}))
    ended = refused()
    assert ended.code == 3
    assert "no support case shows spleen (3); label it in one case or leave it out with --labels" in ended.err
    assert refused("--labels", "1", "2", "--dry-run").code == 0


def test_a_truncated_support_image_exits_3(refused, case_folder):
    path = case_folder / "support" / "images" / "labelled-2.nii.gz"
    path.write_bytes(path.read_bytes()[:200])
    ended = refused()
    assert ended.code == 3
    assert "labelled-2.nii.gz" in ended.err
    assert "truncated" in ended.err


def test_a_4d_label_exits_3(refused, case_folder):
    change_label(case_folder, lambda labels, affine: (np.stack([labels, labels], axis=-1), affine))
    ended = refused()
    assert ended.code == 3
    assert "a label file is 3D" in ended.err


def test_nan_in_a_support_image_exits_3(refused, case_folder):
    path = case_folder / "support" / "images" / "labelled-1.nii.gz"
    image = nib.load(path)
    voxels = np.asarray(image.dataobj).copy()
    voxels[0, 0, :2] = np.nan
    nib.save(nib.Nifti1Image(voxels, image.affine), path)
    ended = refused()
    assert ended.code == 3
    assert "2 voxels are NaN or infinite" in ended.err


def test_nan_in_one_query_exits_4_and_the_other_is_written(call, case_folder, fast, tmp_path):
    path = case_folder / "queries" / "query-3.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.full(image.shape, np.nan, np.float32), image.affine), path)
    out = tmp_path / "out"
    words = ("segment", "-s", case_folder / "support", "-i", case_folder / "queries", "-o", out, *fast)
    ended = call(*words)
    assert ended.code == 4
    assert "failed     query-3" in ended.out
    assert "NaN" in ended.out
    assert [path.name for path in out.glob("*.nii.gz")] == ["query-4.nii.gz"]


def test_labels_of_fractions_exit_3(refused, case_folder):
    change_label(case_folder, lambda labels, affine: (labels.astype(np.float32) / 2, affine))
    ended = refused()
    assert ended.code == 3
    assert "labels are integers, found 0.5" in ended.err


@pytest.mark.parametrize("which", ["support", "queries"])
def test_an_empty_folder_exits_3(call, case_folder, fast, tmp_path, which):
    empty = tmp_path / "empty"
    empty.mkdir()
    given = {"support": case_folder / "support", "queries": case_folder / "queries"} | {which: empty}
    out = tmp_path / "out"
    ended = call("segment", "-s", given["support"], "-i", given["queries"], "-o", out, *fast)
    assert ended.code == 3
    assert f"{empty}: the folder is empty" in ended.err
    assert not out.exists()


def test_a_folder_that_is_not_there_exits_3(call, case_folder, fast, tmp_path):
    ended = call("segment", "-s", tmp_path / "no", "-i", case_folder / "queries", "-o", tmp_path / "o", *fast)
    assert ended.code == 3
    assert "there is no such file or folder" in ended.err


def test_images_without_labels_as_support_exit_3(call, case_folder, fast, tmp_path):
    queries = case_folder / "queries"
    ended = call("segment", "-s", queries, "-i", queries, "-o", tmp_path / "out", *fast)
    assert ended.code == 3
    assert "labels are needed" in ended.err


def test_background_only_exits_3(refused, case_folder):
    for name in ("labelled-1", "labelled-2"):
        path = case_folder / "support" / "labels" / f"{name}.nii.gz"
        image = nib.load(path)
        nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), path)
    (case_folder / "support" / "labels.json").unlink()
    ended = refused()
    assert ended.code == 3
    assert "background only" in ended.err


def test_weights_that_are_not_there_exit_5(refused):
    ended = refused("--backbone", "/nowhere/model")
    assert ended.code == 5
    assert "/nowhere/model does not exist" in ended.err


def test_hub_weights_without_network_exit_5(refused, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    ended = refused("--backbone", "facebook/sam2.1-hiera-large")
    assert ended.code == 5
    assert "facebook/sam2.1-hiera-large is not on this machine" in ended.err
    assert "unprompted weights get" in ended.err


def test_damaged_weights_exit_5(refused, tiny_model_folder, tmp_path):
    import shutil

    damaged = tmp_path / "damaged"
    shutil.copytree(tiny_model_folder, damaged)
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert refused("--backbone", damaged).code == 5


def test_an_output_that_is_an_input_exits_2(call, case_folder, fast):
    queries = case_folder / "queries"
    before = sorted(path.name for path in queries.iterdir())
    ended = call("segment", "-s", case_folder / "support", "-i", queries, "-o", queries, *fast)
    assert ended.code == 2
    assert "is an input folder too" in ended.err
    assert sorted(path.name for path in queries.iterdir()) == before


def test_an_output_that_is_a_file_exits_2(call, case_folder, fast, tmp_path):
    file = tmp_path / "out.nii.gz"
    file.write_bytes(b"precious")
    ended = call("segment", "-s", case_folder / "support", "-i", case_folder / "queries", "-o", file, *fast)
    assert ended.code == 2
    assert file.read_bytes() == b"precious"


def test_a_folder_that_holds_no_task_exits_3(call, case_folder, tmp_path):
    ended = call("segment", "-t", tmp_path, "-i", case_folder / "queries", "-o", tmp_path / "out")
    assert ended.code == 3
    assert "holds no fitted task" in ended.err
    assert "unprompted fit -s SUPPORT" in ended.err


def test_an_unexpected_error_exits_1_in_one_line(call, case_folder, fast, tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr("unprompted.apps.batch.run.read_support", broken)
    words = ("segment", "-s", case_folder / "support", "-i", case_folder / "queries", "-o", tmp_path / "o")
    ended = call(*words, *fast)
    assert ended.code == 1
    assert "error: RuntimeError: a bug" in ended.err
    assert "--debug" in ended.err
    assert "Traceback" not in ended.err
    assert "Traceback" in call(*words, *fast, "--debug").err


def test_an_unexpected_error_in_one_case_leaves_the_others(call, case_folder, fast, tmp_path, monkeypatch):
    import unprompted.apps.batch.work as batch

    real = batch.load_case

    def broken(files):
        if files.name == "query-3":
            raise RuntimeError("out of memory")
        return real(files)

    monkeypatch.setattr(batch, "load_case", broken)
    words = ("segment", "-s", case_folder / "support", "-i", case_folder / "queries", "-o", tmp_path / "o")
    ended = call(*words, *fast)
    assert ended.code == 4
    assert "query-3: RuntimeError: out of memory" in ended.out
    assert (tmp_path / "o" / "query-4.nii.gz").is_file()


def test_help_tells_the_exit_codes(call):
    out = " ".join(call("--help").out.split())
    for meaning in (
        "0 all good",
        "2 wrong call",
        "3 input data refused",
        "5 weights missing",
        "130 interrupted",
    ):
        assert meaning in out


def test_a_process_ends_with_the_exit_code(tmp_path):
    words = [sys.executable, "-m", "unprompted.apps.cli.commands"]
    ended = subprocess.run(
        [*words, "segment", "-s", tmp_path / "no", "-i", tmp_path, "-o", tmp_path / "out"],
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert ended.returncode == 3
    assert ended.stdout == ""
    assert ended.stderr.startswith("error: ")
    assert ended.stderr.count("\n") == 1
