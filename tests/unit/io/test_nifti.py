import gzip
import time

import nibabel as nib
import numpy as np
import pytest

from unprompted.errors import DataRefused, GeometryMismatch, LabelRefused, UnreadableFile
from unprompted.geometry import Grid
from unprompted.images import LabelMap
from unprompted.io.base import read_image, read_labels, write_labels

OBLIQUE = np.array([[0.9, -0.3, 0.1, 5], [0.3, 0.9, 0.2, -7], [-0.2, -0.1, 2.9, 11], [0, 0, 0, 1]])
CLASSES = {1: "liver", 2: "spleen & <tail>"}


def save(path, array, affine=None, **header):
    image = nib.Nifti1Image(np.asarray(array), np.eye(4) if affine is None else affine)
    for field, value in header.items():
        image.header[field] = value
    nib.save(image, path)
    return path


def test_array_axes_become_slices_rows_and_columns_as_radiologists_see_them(tmp_path):
    array = np.arange(8, dtype=np.int16).reshape(2, 2, 2)  # i to the right, j to the front, k to the head
    volume = read_image(save(tmp_path / "pat.1.nii.gz", array))
    assert volume.name == "pat.1"
    assert volume.grid.directions == "SPL"
    assert volume.voxels[0].tolist() == [[6, 2], [4, 0]]  # k=0: front row first, the patient's right first
    assert volume.voxels.dtype == np.float32


def test_the_stored_slope_is_applied(tmp_path):
    path = tmp_path / "ct.nii"
    image = nib.Nifti1Image(np.zeros((1, 1, 2), np.int16), np.eye(4))
    image.header.set_slope_inter(2, -1024)
    image.header.set_data_shape((1, 1, 2))
    nib.save(image, path)
    stored = bytearray(path.read_bytes())
    stored[-4:] = np.array([0, 512], "<i2").tobytes()
    path.write_bytes(bytes(stored))
    assert nib.load(path).get_fdata().ravel().tolist() == read_image(path).voxels.ravel().tolist()


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SRA", "PIL", "ASR"])
@pytest.mark.parametrize("affine", [np.diag([1.0, 1.5, 3.0, 1.0]), OBLIQUE], ids=["straight", "oblique"])
def test_storage_order_changes_neither_voxels_nor_where_masks_land(tmp_path, codes, affine):
    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    original = nib.Nifti1Image(array, affine)
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(original.affine), nib.orientations.axcodes2ornt(codes)
    )
    stored = tmp_path / f"{codes}.nii.gz"
    nib.save(original.as_reoriented(turn), stored)
    reference = read_image(save(tmp_path / "reference.nii.gz", array, affine))
    volume = read_image(stored)
    assert volume.voxels.tolist() == reference.voxels.tolist()
    assert volume.grid.same_space(reference.grid)

    mask = (volume.voxels == 37).astype(np.uint8)  # array index (1, 3, 2) of the original
    write_labels(LabelMap(mask, volume.grid), tmp_path / "out.nii.gz", stored)
    written = nib.load(tmp_path / "out.nii.gz")
    index = np.argwhere(np.asarray(written.dataobj))
    assert nib.affines.apply_affine(written.affine, index) == pytest.approx(
        nib.affines.apply_affine(affine, [[1, 3, 2]]), abs=1e-4
    )
    assert written.shape == nib.load(stored).shape
    assert written.affine.tolist() == nib.load(stored).affine.tolist()


def test_a_packed_volume_of_many_slabs_is_unpacked_once(tmp_path, monkeypatch):
    array = np.arange(9 * 512 * 512, dtype=np.int32).reshape(512, 512, 9)
    path = save(tmp_path / "large.nii.gz", array)
    opened = []
    opening = gzip.GzipFile.__init__

    def counted(self, filename=None, *words, **more):
        opened.append(filename)
        opening(self, filename, *words, **more)

    monkeypatch.setattr(gzip.GzipFile, "__init__", counted)
    volume = read_image(path)
    assert len(opened) <= 3  # to tell what it is, for the header, for the voxels
    assert volume.voxels.shape == (9, 512, 512)
    assert volume.voxels[8, 511, 511] == array[0, 0, 8]  # rows and columns start at the front and the right


def test_labels_there_and_back_are_the_same_array(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    like = save(tmp_path / "a.nii.gz", array, OBLIQUE)
    write_labels(read_labels(like), tmp_path / "b.nii.gz", like)
    assert np.asarray(nib.load(tmp_path / "b.nii.gz").dataobj).tolist() == array.tolist()


@pytest.mark.parametrize(("qform", "sform"), [(1, 0), (0, 2), (1, 4), (0, 0)])
def test_output_keeps_affines_their_codes_and_units(tmp_path, qform, sform):
    image = nib.Nifti1Image(np.ones((3, 4, 5), np.int16), np.diag([2.0, 2.0, 4.0, 1.0]))
    image.set_qform(np.diag([2.0, 2.0, 4.0, 1.0]), code=qform)
    image.set_sform(OBLIQUE if sform else None, code=sform)
    image.header.set_xyzt_units("mm", "sec")
    image.header.set_slope_inter(3, 5)
    image.header["cal_max"] = 100
    image.header["descrip"] = b"Doe^John"
    like = tmp_path / "q.nii.gz"
    nib.save(image, like)
    write_labels(
        LabelMap(np.ones(read_image(like).grid.shape, np.uint8), read_image(like).grid),
        tmp_path / "o.nii.gz",
        like,
    )
    wanted, found = nib.load(like).header, nib.load(tmp_path / "o.nii.gz").header
    for field in (
        "qform_code",
        "sform_code",
        "xyzt_units",
        "pixdim",
        "srow_x",
        "srow_y",
        "srow_z",
        "quatern_b",
    ):
        assert found[field].tolist() == wanted[field].tolist(), field
    assert found.get_data_dtype() == np.uint8
    assert (float(found["cal_max"]), found["descrip"].item()) == (0, b"")
    raw = gzip.decompress((tmp_path / "o.nii.gz").read_bytes())
    assert np.frombuffer(raw[112:120], "<f4").tolist() in ([1, 0], [0, 0])


def test_a_file_without_any_affine_takes_its_voxel_size(tmp_path):
    image = nib.Nifti1Image(np.zeros((4, 4, 2), np.int16), None)
    image.header["pixdim"][1:4] = [1, 1, 5]
    nib.save(image, tmp_path / "old.nii")
    grid = read_image(tmp_path / "old.nii").grid
    assert (grid.spacing, grid.in_mm) == ((5, 1, 1), True)


@pytest.mark.parametrize(("unit", "spacing"), [("micron", 0.003), ("meter", 3000), ("mm", 3), ("unknown", 3)])
def test_spacing_is_in_millimetres_whatever_the_unit_of_the_file(tmp_path, unit, spacing):
    image = nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), np.diag([3.0, 3.0, 3.0, 1.0]))
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "u.nii.gz")
    labels = read_labels(tmp_path / "u.nii.gz")
    assert labels.grid.spacing == pytest.approx((spacing,) * 3)
    write_labels(labels, tmp_path / "o.nii.gz", tmp_path / "u.nii.gz")
    assert nib.load(tmp_path / "o.nii.gz").header.get_xyzt_units()[0] == unit


def test_names_and_colours_travel_in_a_workbench_label_table(tmp_path):
    like = save(tmp_path / "a.nii.gz", np.ones((2, 2, 2), np.uint8))
    labels = read_labels(like)
    write_labels(LabelMap(labels.labels, labels.grid, CLASSES), tmp_path / "o.nii.gz", like)
    (extension,) = nib.load(tmp_path / "o.nii.gz").header.extensions
    assert extension.get_code() == 30
    assert (
        b'<Label Key="1" Red="0.901961" Green="0.623529" Blue="0.000000" Alpha="1">liver' in extension.content
    )
    assert read_labels(tmp_path / "o.nii.gz").classes == CLASSES


def test_extensions_of_the_query_are_not_copied(tmp_path):
    image = nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), np.eye(4))
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Doe^John"))
    like = tmp_path / "a.nii.gz"
    nib.save(image, like)
    write_labels(read_labels(like), tmp_path / "o.nii.gz", like)
    assert len(nib.load(tmp_path / "o.nii.gz").header.extensions) == 0


def test_an_entity_bomb_in_a_label_table_is_left_alone(tmp_path):
    image = nib.Nifti1Image(np.ones((2, 2, 2), np.uint8), np.eye(4))
    bomb = b'<!DOCTYPE x [<!ENTITY a "b">]><CaretExtension><Label Key="1">&a;</Label></CaretExtension>'
    image.header.extensions.append(nib.nifti1.Nifti1Extension(30, bomb))
    nib.save(image, tmp_path / "a.nii.gz")
    assert read_labels(tmp_path / "a.nii.gz").classes == {}


def test_two_runs_write_the_same_bytes(tmp_path):
    like = save(tmp_path / "a.nii.gz", np.ones((2, 2, 2), np.uint8))
    labels = LabelMap(read_labels(like).labels, read_labels(like).grid, CLASSES)
    write_labels(labels, tmp_path / "o.nii.gz", like)
    time.sleep(1.1)  # gzip stores whole seconds
    write_labels(labels, tmp_path / "other.nii.gz", like)
    assert (tmp_path / "o.nii.gz").read_bytes() == (tmp_path / "other.nii.gz").read_bytes()


def test_more_than_255_classes_are_written_as_uint16(tmp_path):
    like = save(tmp_path / "a.nii.gz", np.full((2, 2, 2), 300, np.int32))
    labels = read_labels(like)
    assert labels.labels.dtype == np.uint16
    write_labels(labels, tmp_path / "o.nii.gz", like)
    assert nib.load(tmp_path / "o.nii.gz").get_data_dtype() == np.uint16


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 1), (3, 4, 2, 1), (3, 4, 2, 1, 1)])
def test_flat_files_and_trailing_single_axes_come_back_in_their_own_shape(tmp_path, shape):
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    like = save(tmp_path / "a.nii.gz", array)
    labels = read_labels(like)
    assert labels.labels.ndim == 3
    write_labels(labels, tmp_path / "o.nii.gz", like)
    assert np.asarray(nib.load(tmp_path / "o.nii.gz").dataobj).tolist() == array.tolist()
    assert nib.load(tmp_path / "o.nii.gz").shape == nib.load(like).shape


def test_an_rgb_file_is_read_as_three_channels(tmp_path):
    colours = np.zeros((2, 3, 1), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    colours["G"] = 7
    save(tmp_path / "rgb.nii.gz", colours)
    volume = read_image(tmp_path / "rgb.nii.gz")
    assert volume.voxels.shape == (1, 3, 2, 3)
    assert volume.voxels[0, 0, 0].tolist() == [0, 7, 0]
    with pytest.raises(LabelRefused, match="colours"):
        read_labels(tmp_path / "rgb.nii.gz")


def test_nifti_2_stays_nifti_2(tmp_path):
    nib.save(nib.Nifti2Image(np.ones((2, 2, 2), np.uint8), np.eye(4)), tmp_path / "a.nii")
    write_labels(read_labels(tmp_path / "a.nii"), tmp_path / "o.nii.gz", tmp_path / "a.nii")
    assert isinstance(nib.load(tmp_path / "o.nii.gz"), nib.Nifti2Image)


def test_a_4d_image_is_refused_with_its_shape(tmp_path):
    path = save(tmp_path / "bold.nii.gz", np.zeros((2, 2, 2, 3)))
    with pytest.raises(UnreadableFile, match=r"bold.*\(2, 2, 2, 3\).*split it"):
        read_image(path)


def test_a_4d_label_is_refused_with_its_shape(tmp_path):
    path = save(tmp_path / "hot.nii.gz", np.zeros((2, 2, 2, 5), np.uint8))
    with pytest.raises(LabelRefused, match=r"hot.*3D, found shape \(2, 2, 2, 5\)"):
        read_labels(path)


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (0.5, LabelRefused, "integers, found 0.5"),
        (-1.0, LabelRefused, "found -1"),
        (70000.0, LabelRefused, "at most 65535"),
        (np.nan, DataRefused, "NaN"),
    ],
)
def test_labels_that_are_no_labels_are_refused(tmp_path, value, error, message):
    array = np.zeros((2, 2, 2), np.float32)
    array[0, 0, 0] = value
    path = save(tmp_path / "bad.nii.gz", array)
    with pytest.raises(error, match=f"bad.nii.gz.*{message}"):
        read_labels(path)


def test_whole_floats_are_labels(tmp_path):
    assert read_labels(save(tmp_path / "f.nii.gz", np.full((2, 2, 2), 3.0))).labels.dtype == np.uint8


def test_nan_voxels_are_refused(tmp_path):
    path = save(tmp_path / "n.nii.gz", np.full((2, 2, 2), np.nan, np.float32))
    with pytest.raises(DataRefused, match="n: 8 voxels are NaN"):
        read_image(path)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
def test_a_truncated_file_is_refused(tmp_path, name):
    path = save(tmp_path / name, np.random.default_rng(0).integers(0, 999, (20, 20, 20)).astype(np.int16))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableFile, match=f"{name}: cannot be read, so it is truncated"):
        read_image(path)


def test_a_zero_affine_is_refused_with_the_file_name(tmp_path):
    image = nib.Nifti1Image(np.zeros((2, 2, 2)), np.eye(4))
    image.header["sform_code"], image.header["qform_code"] = 1, 0
    for row in "xyz":
        image.header[f"srow_{row}"] = 0
    broken = nib.Nifti1Image(np.zeros((2, 2, 2)), None, image.header)
    broken.header["sform_code"] = 1
    nib.save(broken, tmp_path / "zero.nii.gz")
    with pytest.raises(GeometryMismatch, match=r"zero.nii.gz: the affine is singular"):
        read_image(tmp_path / "zero.nii.gz")


def test_labels_of_other_voxels_are_not_written_and_the_old_file_stands(tmp_path):
    like = save(tmp_path / "a.nii.gz", np.zeros((2, 2, 2)))
    out = tmp_path / "o.nii.gz"
    out.write_bytes(b"earlier result")
    with pytest.raises(GeometryMismatch, match="different voxels"):
        write_labels(LabelMap(np.zeros((2, 2, 3), np.uint8), Grid((2, 2, 3), np.eye(4))), out, like)
    assert out.read_bytes() == b"earlier result"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nii.gz", "o.nii.gz"]


def test_labels_of_another_format_are_written_on_their_own_grid(tmp_path):
    labels = LabelMap(np.arange(8, dtype=np.uint8).reshape(2, 2, 2), Grid.with_spacing((2, 2, 2), (3, 1, 1)))
    np.savez(tmp_path / "a.npz", image=np.zeros((2, 2, 2)), spacing=[3, 1, 1])
    write_labels(labels, tmp_path / "o.nii.gz", tmp_path / "a.npz")
    again = read_labels(tmp_path / "o.nii.gz")
    assert again.labels.tolist() == labels.labels.tolist()
    assert again.grid.same_space(labels.grid)
