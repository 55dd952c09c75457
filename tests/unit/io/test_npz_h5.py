import time

import h5py
import numpy as np
import pytest

from unprompted.errors import DataRefused, LabelRefused, UnreadableFile
from unprompted.images import LabelMap
from unprompted.io.base import holds_labels, read_image, read_labels, result_path, write_labels

FORMATS = pytest.mark.parametrize("suffix", [".npz", ".h5", ".npy.h5"])


def save(path, **arrays):
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
    return path


def label_of(path):
    if path.suffix == ".npz":
        return np.load(path)["label"]
    with h5py.File(path) as file:
        return file["label"][()]


@FORMATS
def test_image_and_label_of_a_synapse_file_are_read_as_stored(tmp_path, suffix):
    image, label = np.arange(24.0).reshape(2, 3, 4), np.ones((2, 3, 4), np.float32)
    path = save(tmp_path / f"case0008{suffix}", image=image, label=label)
    volume, labels = read_image(path), read_labels(path)
    assert volume.voxels.tolist() == image.tolist()
    assert (volume.name, volume.grid.in_mm, labels.labels.dtype) == ("case0008", False, np.uint8)
    assert volume.grid.same_space(labels.grid)
    assert holds_labels(path)


@FORMATS
def test_a_slice_is_one_image(tmp_path, suffix):
    path = save(tmp_path / f"s{suffix}", image=np.zeros((3, 4)), label=np.zeros((3, 4)))
    assert read_image(path).voxels.shape == read_labels(path).labels.shape == (1, 3, 4)
    write_labels(read_labels(path), tmp_path / f"o{suffix}", path)
    assert label_of(tmp_path / f"o{suffix}").shape == (3, 4)


def test_a_last_axis_of_three_is_colour(tmp_path):
    path = save(tmp_path / "c.npz", image=np.zeros((5, 4, 3)), label=np.zeros((5, 4)))
    assert read_image(path).voxels.shape == (1, 5, 4, 3)


@FORMATS
def test_a_spacing_is_honoured(tmp_path, suffix):
    path = save(tmp_path / f"a{suffix}", image=np.zeros((2, 3, 4)), spacing=np.array([5, 0.5, 0.25]))
    grid = read_image(path).grid
    assert (grid.spacing, grid.in_mm) == ((5, 0.5, 0.25), True)


@FORMATS
def test_an_affine_is_honoured_and_labels_go_back_to_the_stored_order(tmp_path, suffix):
    label = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    affine = np.diag([1.0, 1.0, 4.0, 1.0])
    path = save(tmp_path / f"a{suffix}", image=label * 1.0, label=label, affine=affine)
    assert read_image(path).grid.directions == "SPL"
    assert read_image(path).voxels[0].tolist() == [[20, 8], [16, 4], [12, 0]]
    out = result_path(tmp_path / "out", "a", path)
    write_labels(read_labels(path), out, path)
    assert label_of(out).tolist() == label.tolist()
    assert label_of(out).dtype == np.uint8


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_two_runs_write_the_same_bytes(tmp_path, suffix):
    path = save(tmp_path / f"a{suffix}", image=np.zeros((2, 3, 4)), label=np.ones((2, 3, 4), np.uint8))
    write_labels(read_labels(path), tmp_path / f"b{suffix}", path)
    time.sleep(1.1)
    write_labels(read_labels(path), tmp_path / f"c{suffix}", path)
    assert (tmp_path / f"b{suffix}").read_bytes() == (tmp_path / f"c{suffix}").read_bytes()


@FORMATS
def test_a_missing_array_is_named_with_those_that_are_there(tmp_path, suffix):
    path = save(tmp_path / f"a{suffix}", image=np.zeros((2, 3, 4)), other=np.zeros(2))
    with pytest.raises(UnreadableFile, match="no array label; it holds image, other"):
        read_labels(path)


@FORMATS
def test_4d_arrays_are_refused_with_their_shape(tmp_path, suffix):
    path = save(tmp_path / f"a{suffix}", image=np.zeros((2, 3, 4, 5)), label=np.zeros((2, 3, 4, 5)))
    with pytest.raises(UnreadableFile, match=r"found shape \(2, 3, 4, 5\)"):
        read_image(path)
    with pytest.raises(LabelRefused, match=r"found shape \(2, 3, 4, 5\)"):
        read_labels(path)


@FORMATS
def test_a_truncated_file_is_refused(tmp_path, suffix):
    path = save(tmp_path / f"a{suffix}", image=np.random.default_rng(0).random((8, 9, 9)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableFile, match="truncated"):
        read_image(path)


def test_pickled_objects_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", image=np.array([{"code": "evil"}], dtype=object))
    with pytest.raises(UnreadableFile, match="allow_pickle"):
        read_image(tmp_path / "a.npz")


def test_nan_and_fractions_are_refused(tmp_path):
    path = save(tmp_path / "a.npz", image=np.full((2, 2, 2), np.nan), label=np.full((2, 2, 2), 0.5))
    with pytest.raises(DataRefused, match="NaN"):
        read_image(path)
    with pytest.raises(LabelRefused, match="integers"):
        read_labels(path)


def test_a_wrong_spacing_is_refused(tmp_path):
    path = save(tmp_path / "a.npz", image=np.zeros((2, 2, 2)), spacing=np.array([1.0, 0, 1]))
    with pytest.raises(UnreadableFile, match="positive"):
        read_image(path)


def test_labels_of_another_format_carry_their_affine(tmp_path):
    path = save(tmp_path / "a.h5", image=np.zeros((2, 3, 4)), spacing=np.array([5.0, 1, 1]))
    grid = read_image(path).grid
    write_labels(LabelMap(np.ones((2, 3, 4), np.uint8), grid), tmp_path / "o.npz", path)
    assert read_labels(tmp_path / "o.npz").grid.same_space(grid)
