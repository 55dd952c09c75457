import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from unprompted.errors import DataRefused, LabelRefused, UnreadableFile
from unprompted.geometry import Grid, Reordering, canonical_reordering
from unprompted.images import LabelMap
from unprompted.io.base import read_image, read_labels, result_path, write_labels


def save(path, array, spacing=(1, 1, 3), origin=(0, 0, 0), direction=None):
    """An ITK image of a (k, j, i) array; spacing, origin and direction as ITK has them: (i, j, k), LPS."""
    image = sitk.GetImageFromArray(np.asarray(array))
    image.SetSpacing([float(s) for s in spacing])
    image.SetOrigin([float(o) for o in origin])
    if direction is not None:
        image.SetDirection([float(d) for d in np.ravel(direction)])
    sitk.WriteImage(image, str(path))
    return path


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd"])
def test_lps_coordinates_become_ras(tmp_path, suffix):
    volume = read_image(
        save(tmp_path / f"ct{suffix}", np.arange(8, dtype=np.int16).reshape(2, 2, 2), origin=(10, 20, 30))
    )
    # ITK's i runs to the left, j to the back, k to the head: canonical already, so nothing moves.
    assert volume.voxels.tolist() == [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]
    assert volume.grid.affine.tolist() == [[0, 0, -1, -10], [0, -1, 0, -20], [3, 0, 0, 30], [0, 0, 0, 1]]
    assert volume.name == "ct"


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_the_same_volume_from_nifti_is_the_same(tmp_path, suffix):
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    affine = np.array([[0, -1.5, 0, 4], [0.8, 0, -1.8, 5], [0.6, 0, 2.4, 6], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(array, affine), tmp_path / "a.nii")
    sitk.WriteImage(sitk.ReadImage(str(tmp_path / "a.nii")), str(tmp_path / f"b{suffix}"))
    one, other = read_image(tmp_path / "a.nii"), read_image(tmp_path / f"b{suffix}")
    assert one.voxels.tolist() == other.voxels.tolist()
    assert one.grid.same_space(other.grid)


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from([".nrrd", ".mha", ".nii", ".nii.gz"]),
    st.permutations([0, 1, 2]),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
    st.sampled_from([0, 20, 45, 70]),
)
def test_files_of_any_orientation_come_back_voxel_for_voxel(suffix, axes, flips, degrees):
    turn = np.deg2rad(degrees)
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    affine[:2, :2] = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * [1.0, 2.0]
    base = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    order = Reordering(tuple(axes), flips)
    stored, grid = order.apply(base), order.apply_to_grid(Grid(base.shape, affine))
    with tempfile.TemporaryDirectory() as folder:
        path, out = Path(folder) / f"a{suffix}", Path(folder) / f"o{suffix}"
        nib.save(nib.Nifti1Image(stored, grid.affine), Path(folder) / "a.nii")
        sitk.WriteImage(sitk.ReadImage(str(Path(folder) / "a.nii")), str(path))
        labels = read_labels(path)
        canonical = canonical_reordering(Grid(base.shape, affine))
        assert labels.labels.tolist() == canonical.apply(base).tolist()
        write_labels(labels, out, path)
        written, original = sitk.ReadImage(str(out)), sitk.ReadImage(str(path))
        assert sitk.GetArrayFromImage(written).tolist() == sitk.GetArrayFromImage(original).tolist()
        assert written.GetDirection() == pytest.approx(original.GetDirection())
        assert written.GetOrigin() == pytest.approx(original.GetOrigin())


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".mhd"])
def test_two_runs_write_the_same_bytes(tmp_path, suffix):
    like = save(tmp_path / f"a{suffix}", np.ones((2, 2, 2), np.uint8))
    labels = read_labels(like)
    for run in ("one", "two"):
        write_labels(labels, tmp_path / run / f"a{suffix}", like)
        time.sleep(1.1 if run == "one" else 0)
    written = [sorted((tmp_path / run).iterdir()) for run in ("one", "two")]
    assert [p.name for p in written[0]] == [p.name for p in written[1]]
    assert [p.read_bytes() for p in written[0]] == [p.read_bytes() for p in written[1]]
    assert read_labels(tmp_path / "two" / f"a{suffix}").labels.tolist() == np.ones((2, 2, 2)).tolist()


def test_names_and_colours_travel_as_slicer_segments(tmp_path):
    like = save(tmp_path / "a.nrrd", np.ones((2, 2, 2), np.uint8))
    labels = read_labels(like)
    write_labels(LabelMap(labels.labels, labels.grid, {1: "liver", 5: "spleen"}), tmp_path / "o.nrrd", like)
    assert read_labels(tmp_path / "o.nrrd").classes == {1: "liver", 5: "spleen"}
    assert (
        sitk.ReadImage(str(tmp_path / "o.nrrd")).GetMetaData("Segment0_Color") == "0.901961 0.623529 0.000000"
    )


def test_a_2d_file_stays_2d(tmp_path):
    like = save(tmp_path / "x.mha", np.arange(6, dtype=np.uint8).reshape(2, 3), (1, 1), (0, 0))
    labels = read_labels(like)
    assert labels.labels.shape == (1, 2, 3)
    write_labels(labels, tmp_path / "o.mha", like)
    assert sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "o.mha"))).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_three_components_are_colours(tmp_path):
    image = sitk.GetImageFromArray(np.full((2, 4, 4, 3), 9, np.uint8), isVector=True)
    sitk.WriteImage(image, str(tmp_path / "rgb.nrrd"))
    assert read_image(tmp_path / "rgb.nrrd").voxels.shape == (2, 4, 4, 3)
    with pytest.raises(LabelRefused, match="one component, found 3"):
        read_labels(tmp_path / "rgb.nrrd")


def test_two_components_are_refused(tmp_path):
    image = sitk.GetImageFromArray(np.zeros((2, 4, 4, 2), np.uint8), isVector=True)
    sitk.WriteImage(image, str(tmp_path / "v.nrrd"))
    with pytest.raises(UnreadableFile, match="1 or 3 components, found 2"):
        read_image(tmp_path / "v.nrrd")


def test_4d_files_are_refused_with_their_shape(tmp_path):
    image = sitk.GetImageFromArray(np.zeros((5, 4, 3, 2), np.uint8), isVector=False)
    sitk.WriteImage(image, str(tmp_path / "four.nrrd"))
    with pytest.raises(UnreadableFile, match=r"\(2, 3, 4, 5\)"):
        read_image(tmp_path / "four.nrrd")
    with pytest.raises(LabelRefused, match=r"\(2, 3, 4, 5\)"):
        read_labels(tmp_path / "four.nrrd")


@pytest.mark.parametrize("suffix", [".nrrd", ".mha"])
def test_a_truncated_file_is_refused(tmp_path, suffix):
    path = save(tmp_path / f"t{suffix}", np.zeros((9, 9, 9), np.int16))
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(UnreadableFile, match="truncated"):
        read_image(path)


def test_nan_voxels_are_refused(tmp_path):
    path = save(tmp_path / "n.mha", np.full((2, 2, 2), np.nan, np.float32))
    with pytest.raises(DataRefused, match="8 voxels are NaN"):
        read_image(path)


def test_results_keep_the_format_of_the_query(tmp_path):
    like = save(tmp_path / "a.b.nrrd", np.zeros((2, 2, 2), np.uint8))
    assert result_path(tmp_path, "a.b", like) == tmp_path / "a.b.nrrd"
