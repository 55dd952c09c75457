"""Original DICOM files of scanners and of other programs, with the masks that those gave."""

from pathlib import Path

import numpy as np
import pytest

from builders import dice
from dicoms import errors_of
from unprompted.datasets.folder import load_case, recognise
from unprompted.io.base import read_image, read_labels, write_labels

SHARED = Path(__file__).parents[4] / "shared" / "data" / "dicom_interop"
pytestmark = [
    pytest.mark.data,
    pytest.mark.skipif(
        not SHARED.is_dir(), reason="the real DICOM files lie in ../shared/data/dicom_interop"
    ),
]


def loaded(folder):
    layout = recognise(SHARED / folder, need_labels=True)
    (case,) = layout.cases
    return load_case(case, layout.classes)


@pytest.mark.parametrize(
    ("folder", "shape", "classes"),
    [
        (
            "dcmqi_ct3slice_seg",
            (3, 512, 512),
            ["DARK_BLUE", "GREEN", "LIGHT_BLUE", "Liver", "ORANGE", "PURPLE"],
        ),
        ("ibsi1_lung_ct_rtstruct", (60, 201, 204), ["GTV-1"]),
        ("rtutils_phantom_ct_rtstruct", (2, 512, 512), ["ROI-1"]),
        ("sts002_ct_rtstruct", (48, 143, 161), ["GTV_Mass_CT"]),
        ("sts002_mr_t1_rtstruct", (35, 90, 115), ["GTV_Mass_MR_T1"]),
        ("sts002_pet_rtstruct", (27, 48, 30), ["GTV_Mass_PET"]),
        ("ucsf_br06_mr_seg", (42, 256, 256), ["Breast"]),
    ],
)
def test_every_folder_is_read_with_its_labels(folder, shape, classes):
    volume, labels = loaded(folder)
    assert volume.grid.shape == shape
    assert list(labels.classes.values()) == classes
    assert volume.grid.same_space(labels.grid)
    assert set(np.unique(labels.labels)) == {0, *labels.classes}


@pytest.mark.parametrize(
    "folder", ["ibsi1_lung_ct_rtstruct", "sts002_ct_rtstruct", "sts002_mr_t1_rtstruct", "sts002_pet_rtstruct"]
)
def test_outlines_give_the_mask_that_another_program_made_of_them(folder):
    volume, labels = loaded(folder)
    given = read_labels(SHARED / folder / "nifti_mask" / "mask.nii.gz")
    assert volume.grid.same_space(given.grid, tolerance_mm=0.05)
    assert dice(labels.labels, given.labels) >= 0.98


def test_a_seg_of_dcmqi_is_the_label_map_it_was_made_from():
    folder = SHARED / "dcmqi_ct3slice_seg"
    grid = read_image(folder / "image").grid
    labels = read_labels(folder / "seg" / "liver.dcm", grid)
    given = read_labels(folder / "nrrd" / "liver_seg.nrrd")
    assert given.grid.same_space(grid, tolerance_mm=0.05)
    assert ((labels.labels > 0) == (given.labels > 0)).all()


@pytest.mark.parametrize("folder", ["sts002_ct_rtstruct", "sts002_pet_rtstruct", "ucsf_br06_mr_seg"])
def test_a_seg_of_an_original_series_is_valid_and_comes_back_equal(folder, tmp_path):
    volume, labels = loaded(folder)
    write_labels(labels, tmp_path / "seg.dcm", SHARED / folder / "image")
    assert errors_of(tmp_path / "seg.dcm") == []
    assert (read_labels(tmp_path / "seg.dcm", volume.grid).labels == labels.labels).all()
