"""Distances of small shapes whose surfaces can be drawn on paper, and the rules for empty masks."""

import numpy as np
import pytest

from builders import make_labels
from unprompted.errors import DataRefused, GeometryMismatch
from unprompted.evaluation.physical import Physical, physical_errors
from unprompted.geometry import Grid
from unprompted.images import LabelMap

SPACING_MM = (5.0, 0.8, 0.8)
DIAGONAL_MM = (50**2 + 16**2 + 16**2) ** 0.5  # of 10 x 20 x 20 voxels


def box(d=slice(2, 6), h=slice(4, 12), w=slice(4, 12), shape=(10, 20, 20)):
    labels = np.zeros(shape, np.uint8)
    labels[d, h, w] = 1
    return labels


def errors(found, truth, spacing_mm=SPACING_MM, tolerance_mm=1.0, **more):
    prediction, reference = make_labels(found, spacing_mm), make_labels(truth, spacing_mm, **more)
    return physical_errors(prediction, reference, [1], tolerance_mm)[1]


def test_equal_masks_have_no_error():
    assert errors(box(), box()) == Physical(1.0, 0.0, 0.0, 0.0, 0.0, 0.0)


def test_one_slice_more_is_one_slice_thickness_away():
    found = errors(box(d=slice(2, 7)), box(d=slice(2, 6)))
    assert found.hd_mm == found.hd95_mm == pytest.approx(5.0)
    assert found.volume_error_ml == pytest.approx(64 * 3.2 / 1000)
    assert found.volume_bias_ml == pytest.approx(64 * 3.2 / 1000)


def test_too_little_is_a_negative_bias_and_a_positive_error():
    found = errors(box(d=slice(2, 5)), box(d=slice(2, 6)))
    assert found.volume_bias_ml == pytest.approx(-64 * 3.2 / 1000)
    assert found.volume_error_ml == pytest.approx(64 * 3.2 / 1000)


def test_a_shift_of_one_pixel_is_within_1_mm_and_not_within_half():
    found, truth = box(w=slice(5, 13)), box(w=slice(4, 12))
    assert errors(found, truth, tolerance_mm=1.0).nsd == 1.0
    assert errors(found, truth, tolerance_mm=0.5).nsd < 1.0
    assert errors(found, truth).hd_mm == pytest.approx(0.8)


def test_a_small_distant_blob_moves_the_largest_distance_and_not_the_95th_percentile():
    found = box()
    found[2, 19, 4] = 1  # the edge of the box is at row 11: 8 pixels of 0.8 mm between voxel centres
    measured = errors(found, box())
    assert measured.hd_mm == pytest.approx(8 * 0.8, abs=0.8)
    assert measured.hd95_mm < 0.8


def test_distances_are_in_mm_and_not_in_voxels():
    fine = errors(box(d=slice(2, 7)), box(), spacing_mm=(1, 1, 1))
    assert fine.hd_mm == pytest.approx(1.0)
    assert errors(box(d=slice(2, 7)), box(), spacing_mm=(3, 1, 1)).hd_mm == pytest.approx(3.0)


@pytest.mark.parametrize("turned", [False, True])
def test_a_missed_or_spurious_class_is_as_far_away_as_the_image_is_large(turned):
    pair = (box(), np.zeros_like(box()))
    measured = errors(*(pair if turned else pair[::-1]))
    volume = 4 * 64 * 3.2 / 1000
    assert measured.nsd == 0.0
    assert measured.hd_mm == measured.hd95_mm == measured.masd_mm == pytest.approx(DIAGONAL_MM)
    assert measured.volume_error_ml == pytest.approx(volume)
    assert measured.volume_bias_ml == pytest.approx(volume if turned else -volume)


def test_a_class_that_is_nowhere_has_no_error_to_average():
    nothing = np.zeros_like(box())
    assert errors(nothing, nothing) == Physical()


def test_a_single_slice_has_contours():
    flat = {"d": slice(0, 1), "shape": (1, 20, 20)}
    measured = errors(box(**flat, w=slice(4, 13)), box(**flat), spacing_mm=(5, 0.8, 0.8))
    assert measured.hd_mm == pytest.approx(0.8)


def test_only_labelled_slices_are_measured():
    found = box()
    found[9] = 1
    labelled = np.arange(10) < 8
    assert errors(found, box(), labelled=labelled).hd_mm == 0.0


def test_images_without_mm_refuse():
    pair = make_labels(box()), make_labels(box())
    with pytest.raises(DataRefused, match=r"voxel size in mm.*--no-mm"):
        physical_errors(*pair, [1])


def test_a_sheared_grid_refuses():
    tilted = np.diag([5, 0.8, 0.8, 1.0])
    tilted[1, 0] = 1.3  # every slice lies 1.3 mm further down, as of a tilted gantry
    pair = [LabelMap(box(), Grid((10, 20, 20), tilted)) for _ in range(2)]
    with pytest.raises(DataRefused, match="tilted gantry"):
        physical_errors(*pair, [1], 1.0)


def test_gaps_between_labelled_slices_refuse():
    labelled = np.arange(10) % 2 == 0
    with pytest.raises(DataRefused, match="labelled slices beside each other"):
        errors(box(), box(), labelled=labelled)


def test_other_grids_are_refused():
    with pytest.raises(GeometryMismatch, match="the prediction has shape"):
        physical_errors(make_labels(box(), (5, 0.8, 0.8)), make_labels(box(), (5, 0.8, 0.9)), [1])
