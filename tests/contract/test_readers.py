"""What every registered file format promises: one small file of each is read, written and read back."""

import h5py
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from dicoms import PLANES, write_series
from unprompted.errors import UnpromptedError, UnreadableFile
from unprompted.geometry import Grid
from unprompted.images import LabelMap
from unprompted.io.base import case_name, read_image, read_labels, result_path, write_labels
from unprompted.registry import READERS

OBLIQUE = np.array([[0.8, -0.6, 0, 7], [0.6, 0.8, 0, -3], [0, 0, 3, 11], [0, 0, 0, 1]])
STACK = np.random.default_rng(0).integers(0, 200, (5, 12, 14)).astype(np.int16)


def nifti(folder):
    nib.save(nib.Nifti1Image(STACK.T, OBLIQUE), folder / "a.nii.gz")
    return folder / "a.nii.gz"


def itk(folder):
    image = sitk.GetImageFromArray(STACK)
    image.SetSpacing((1.0, 1.0, 3.0))
    image.SetOrigin((-7.0, 3.0, 11.0))
    sitk.WriteImage(image, folder / "a.mha")
    return folder / "a.mha"


def raster(folder):
    Image.fromarray(STACK[0].astype(np.uint8)).save(folder / "a.png")
    return folder / "a.png"


def video(folder):
    (folder / "a").mkdir()
    for t, frame in enumerate(STACK):
        Image.fromarray(frame.astype(np.uint8)).save(folder / "a" / f"frame_{t}.png")
    return folder / "a"


def dicom(folder):
    write_series(folder / "a", PLANES["tilted"], voxels=STACK)
    return folder / "a"


def npz(folder):
    np.savez(folder / "a.npz", image=STACK.T, label=STACK.T // 100, affine=OBLIQUE)
    return folder / "a.npz"


def h5(folder):
    with h5py.File(folder / "a.h5", "w") as file:
        file["image"], file["label"], file["spacing"] = STACK, STACK // 100, (3.0, 1.0, 1.0)
    return folder / "a.h5"


SAMPLES = {"nifti": nifti, "itk": itk, "raster": raster, "dicom": dicom, "video": video, "npz": npz, "h5": h5}


@pytest.fixture(params=sorted(READERS))
def reader(request):
    return request.param


@pytest.fixture
def image(reader, tmp_path):
    (tmp_path / "in").mkdir()
    return SAMPLES[reader](tmp_path / "in")


def labels_for(volume, greatest=3):
    """Label d + h + w, cut off at the greatest: no order of axes looks like another."""
    d, h, w = np.indices(volume.grid.shape)
    labels = np.where((d + 2 * h + 3 * w) % 7 < 2, 0, np.minimum(1 + d + h // 4, greatest))
    kind = np.uint8 if greatest < 256 else np.uint16
    return LabelMap(labels.astype(kind), volume.grid, {1: "liver", 2: "spleen", 3: "left kidney"})


def written(labels, image, folder):
    folder.mkdir()
    path = result_path(folder, "case", image)
    write_labels(labels, path, image)
    return path if path.is_file() else path / "masks"


def bytes_under(folder):
    return {f.relative_to(folder): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_every_reader_says_what_it_takes(reader):
    kind = READERS.load(reader)
    assert kind.suffixes
    assert all(suffix == suffix.lower() and suffix[0] in "./" for suffix in kind.suffixes)
    assert isinstance(kind.holds_labels, bool)


def test_an_image_comes_out_finite_and_named_by_its_file(image):
    volume = read_image(image)
    assert volume.name == case_name(image) == "a"
    assert volume.voxels.dtype == np.float32
    assert volume.voxels.shape[:3] == volume.grid.shape
    assert float(volume.voxels.sum()) in (float(STACK.sum()), float(STACK[0].sum()))


def test_an_image_comes_out_in_canonical_order(image):
    volume = read_image(image)
    assert volume.axis == "t" or volume.grid.directions in ("SPL", "AIL", "RIP")


def test_labels_come_back_as_they_were_written(image, tmp_path):
    labels = labels_for(read_image(image))
    back = read_labels(written(labels, image, tmp_path / "out"))
    assert back.labels.dtype == np.uint8
    assert (back.labels == labels.labels).all()
    assert back.grid.same_space(labels.grid)
    assert back.grid.in_mm == labels.grid.in_mm


def test_labels_above_255_come_back_as_uint16(image, tmp_path):
    labels = labels_for(read_image(image))
    high = LabelMap(labels.labels.astype(np.uint16) * 300, labels.grid)
    back = read_labels(written(high, image, tmp_path / "out"))
    assert back.labels.dtype == np.uint16
    assert (back.labels == high.labels).all()


def test_labels_of_background_only_come_back_empty(image, tmp_path):
    grid = read_image(image).grid
    back = read_labels(written(LabelMap(np.zeros(grid.shape, np.uint8), grid), image, tmp_path / "out"))
    assert not back.labels.any()


def test_the_same_labels_give_the_same_bytes(image, tmp_path):
    labels = labels_for(read_image(image))
    written(labels, image, tmp_path / "one")
    written(labels, image, tmp_path / "two")
    assert bytes_under(tmp_path / "one") == bytes_under(tmp_path / "two") != {}


def test_reading_and_writing_leave_the_image_as_it_is(image, tmp_path):
    before = bytes_under(tmp_path / "in")
    written(labels_for(read_image(image)), image, tmp_path / "out")
    assert bytes_under(tmp_path / "in") == before


def test_nothing_unfinished_stays_behind(image, tmp_path):
    written(labels_for(read_image(image)), image, tmp_path / "out")
    names = {path.name.split(".")[0] for path in (tmp_path / "out").iterdir()}
    assert names <= {"case", "case_overlay"}


def test_labels_of_another_size_are_refused(image, tmp_path):
    grid = Grid.without_mm((2, 3, 4))
    with pytest.raises(UnpromptedError):
        written(LabelMap(np.zeros(grid.shape, np.uint8), grid), image, tmp_path / "out")
    assert bytes_under(tmp_path / "out") == {}


def test_a_truncated_file_is_refused(image):
    victim = image if image.is_file() else sorted(image.iterdir())[2]
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 3])
    with pytest.raises(UnreadableFile, match=image.name):
        read_image(image)


def test_labels_beside_the_image_are_read_from_the_same_file(reader, image):
    if READERS.load(reader).holds_labels:
        assert set(np.unique(read_labels(image).labels)) == {0, 1}
