import numpy as np
import pytest

from unprompted.errors import DataRefused, GeometryMismatch, LabelRefused
from unprompted.geometry import Grid
from unprompted.images import LabelMap, Volume


def labels_on(shape, **kwargs):
    return LabelMap(np.zeros(shape, np.uint8), Grid.without_mm(shape), **kwargs)


def test_a_4d_volume_is_refused_with_its_shape():
    with pytest.raises(DataRefused, match=r"found \(2, 2, 2, 5\)"):
        Volume(np.zeros((2, 2, 2, 5)), Grid.without_mm((2, 2, 2)))


def test_nan_voxels_are_refused_and_counted():
    voxels = np.zeros((2, 2, 2))
    voxels[0, 0] = np.nan
    with pytest.raises(DataRefused, match="pat7: 2 voxels are NaN"):
        Volume(voxels, Grid.without_mm((2, 2, 2)), name="pat7")


def test_voxels_fill_their_grid():
    with pytest.raises(GeometryMismatch, match="do not fill"):
        Volume(np.zeros((2, 2, 2)), Grid.without_mm((2, 2, 3)))


def test_voxels_become_float32():
    assert Volume(np.zeros((1, 2, 2), np.int16), Grid.without_mm((1, 2, 2))).voxels.dtype == np.float32


def test_a_volume_can_be_cut_along_another_axis():
    volume = Volume(np.arange(24).reshape(2, 3, 4), Grid.with_spacing((2, 3, 4), (3, 1, 1)))
    sagittal = volume.sliced_along("R")
    assert sagittal.voxels.shape == (4, 2, 3)
    assert sagittal.grid.directions == "RIP"
    # The first sagittal slice is the patient's left, so the last column of every axial slice; the
    # head is up, so the last axial slice is its first row.
    assert sagittal.voxels[0].tolist() == [[15, 19, 23], [3, 7, 11]]
    assert sagittal.sliced_along("S").voxels.tolist() == volume.voxels.tolist()


def test_videos_and_single_pictures_are_not_cut_along_another_axis():
    picture = Volume(np.zeros((1, 4, 4)), Grid.without_mm((1, 4, 4)))
    video = Volume(np.zeros((3, 4, 4)), Grid.without_mm((3, 4, 4)), axis="t")
    assert picture.sliced_along("A") is picture
    assert video.sliced_along("A") is video


def test_labels_are_uint8_or_uint16_in_three_dimensions():
    with pytest.raises(LabelRefused, match="found int64"):
        LabelMap(np.zeros((1, 2, 2), np.int64), Grid.without_mm((1, 2, 2)))
    with pytest.raises(LabelRefused, match=r"\(2, 2\)"):
        LabelMap(np.zeros((2, 2), np.uint8), Grid.without_mm((1, 2, 2)))


def test_there_is_one_labelled_flag_a_slice():
    with pytest.raises(LabelRefused, match="one flag a slice"):
        labels_on((3, 2, 2), labelled=np.ones(2, bool))


def test_partly_labelled_slices_cannot_be_cut_across():
    labels = labels_on((3, 2, 2), labelled=np.array([True, False, True]))
    with pytest.raises(LabelRefused, match="--axis"):
        labels.sliced_along("A")
    assert labels.sliced_along("S").labelled.tolist() == [True, False, True]


def test_slices_without_labels_can_be_taken_as_unlabelled():
    labels = np.zeros((3, 2, 2), np.uint8)
    labels[1, 0, 0] = 4
    only = LabelMap(labels, Grid.without_mm((3, 2, 2))).only_slices_with_labels()
    assert only.labelled.tolist() == [False, True, False]
