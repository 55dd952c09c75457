"""The same volume in four storage orders gives the same mask at every point of the patient."""

import nibabel
import numpy as np
import pytest

from builders import make_subject
from fakes import FakeBackbone
from unprompted import Segmenter, read_image, write_labels
from unprompted.loading import make_method

SHAPE = (6, 48, 40)  # d, h, w
AXIAL = np.array([[0, 0, -1.0, 40], [0, -1.0, 0, 60], [3.0, 0, 0, -9], [0, 0, 0, 1]])  # (d,h,w) to RAS mm
TILT = np.array([[1, 0, 0, 0], [0, 0.96, -0.28, 0], [0, 0.28, 0.96, 0], [0, 0, 0, 1.0]])  # 16 degrees


def stored(voxels, affine, axes, flips):
    """Array and affine of the same volume with its axes permuted and flipped."""
    moved = voxels.transpose(axes)[tuple(slice(None, None, -1 if f else 1) for f in flips)]
    step = np.eye(4)[:, [*axes, 3]]
    for axis, flip in enumerate(flips):
        if flip:
            step[:, 3] += step[:, axis] * (moved.shape[axis] - 1)
            step[:, axis] *= -1
    return moved, affine @ step


STORAGE = {
    "RAS": ((2, 1, 0), (True, True, False), np.eye(4)),
    "LPS": ((2, 1, 0), (False, False, False), np.eye(4)),
    "permuted": ((1, 0, 2), (False, True, True), np.eye(4)),
    "oblique": ((2, 1, 0), (True, True, False), TILT),
}


@pytest.fixture(scope="module")
def fitted():
    support = make_subject(SHAPE, classes=2, seed=1, spacing_mm=(3.0, 1.0, 1.0))
    method = make_method("ofl-sam2", {"epochs": 1, "steps_per_epoch": 1})
    return Segmenter(method, FakeBackbone()).fit([support])


@pytest.fixture(scope="module")
def query():
    return make_subject(SHAPE, classes=2, seed=2)[0].voxels


def segmented(fitted, query, form, folder):
    """Write the query in one storage form, segment the file, write the mask, read it back plainly."""
    axes, flips, turn = STORAGE[form]
    array, affine = stored(query, turn @ AXIAL, axes, flips)
    path = folder / f"{form}.nii.gz"
    nibabel.save(nibabel.Nifti1Image(array.astype(np.float32), affine), path)
    prediction = fitted.segment(read_image(path))
    write_labels(prediction.labels, folder / f"{form}_mask.nii.gz", like=path)
    written = nibabel.load(folder / f"{form}_mask.nii.gz")
    np.testing.assert_allclose(written.affine, affine, atol=1e-5)
    back = np.asanyarray(written.dataobj)[tuple(slice(None, None, -1 if f else 1) for f in flips)]
    return back.transpose(np.argsort(axes))


@pytest.mark.parametrize("form", ["LPS", "permuted", "oblique"])
def test_a_volume_stored_in_another_order_gets_the_same_mask(fitted, query, form, tmp_path):
    reference = segmented(fitted, query, "RAS", tmp_path)
    assert set(np.unique(reference)) >= {0, 1}, "the check needs a mask that is not empty"
    np.testing.assert_array_equal(segmented(fitted, query, form, tmp_path), reference)
