import nibabel as nib
import numpy as np
import pytest

from unprompted.errors import UnpromptedError, UnreadableFile, UsageError
from unprompted.geometry import Grid
from unprompted.images import LabelMap
from unprompted.io.atomic import replacing
from unprompted.io.base import case_name, read_image, read_labels, result_path, suffix_of, write_labels


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("pat1.nii.gz", "pat1"),
        ("pat.1.nii.gz", "pat.1"),
        ("PAT1.NII.GZ", "PAT1"),
        ("a.seg.nrrd", "a"),
        ("x.jpg", "x"),
        ("case0001.npy.h5", "case0001"),
        ("film.mp4", "film"),
    ],
)
def test_a_case_is_named_by_its_file_without_the_ending(tmp_path, file, name):
    assert case_name(tmp_path / file) == name


def test_a_frame_folder_keeps_its_whole_name(tmp_path):
    (tmp_path / "seq.1").mkdir()
    assert case_name(tmp_path / "seq.1") == "seq.1"
    assert suffix_of(tmp_path / "seq.1") == "/"


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UnreadableFile, match="there is no such file"):
        read_image(tmp_path / "none.nii.gz")


def test_an_unknown_ending_is_refused_with_those_known(tmp_path):
    (tmp_path / "a.doc").write_text("x")
    with pytest.raises(UnreadableFile, match=r"a\.doc.*known endings: .*\.mha.*\.nii\.gz.*\.png"):
        read_labels(tmp_path / "a.doc")


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii", "a.nrrd", "a.mha", "a.png", "a.mp4", "a.npz", "a.h5"])
@pytest.mark.parametrize("content", [b"", b"this is not an image at all, but some text"])
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnreadableFile, match=name):
        read_image(tmp_path / name)


def test_volumes_come_back_as_compressed_nifti(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2)), np.eye(4)), tmp_path / "a.nii")
    assert result_path(tmp_path, "a", tmp_path / "a.nii") == tmp_path / "a.nii.gz"


def test_a_folder_that_cannot_be_written_is_an_error_of_its_own(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((2, 2, 2)), np.eye(4)), tmp_path / "a.nii")
    (tmp_path / "out").write_text("a file where a folder should be")
    labels = LabelMap(np.zeros((2, 2, 2), np.uint8), Grid((2, 2, 2), np.eye(4)))
    with pytest.raises(UnpromptedError, match="cannot be written") as caught:
        write_labels(labels, tmp_path / "out" / "a.nii.gz", tmp_path / "a.nii")
    assert caught.value.exit_code == 1


def test_a_label_map_never_takes_the_place_of_its_image(tmp_path):
    np.savez(tmp_path / "a.npz", image=np.zeros((2, 2, 2)))
    labels = LabelMap(np.zeros((2, 2, 2), np.uint8), Grid.without_mm((2, 2, 2)))
    with pytest.raises(UsageError, match="choose another folder"):
        write_labels(labels, result_path(tmp_path, "a", tmp_path / "a.npz"), tmp_path / "a.npz")


def write_half(path):
    with replacing(path) as partial:
        partial.write_text("half")
        raise RuntimeError("the disk is full")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError):
        write_half(path)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a.txt", "old")]


def test_a_finished_write_takes_the_place_of_the_old_file(tmp_path):
    path = tmp_path / "deep" / "a.txt"
    for text in ("old", "new"):
        with replacing(path) as partial:
            partial.write_text(text)
    assert [(p.name, p.read_text()) for p in path.parent.iterdir()] == [("a.txt", "new")]
