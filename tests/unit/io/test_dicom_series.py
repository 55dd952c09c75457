"""Series read as volumes: the right voxels at the right place, or a refusal that says why."""

from fractions import Fraction

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import MPEG4HP41, JPEGLSLossless, RLELossless

from dicoms import PLANES, Plane, save, write_clip, write_enhanced, write_series
from unprompted.errors import DataRefused, UnreadableFile
from unprompted.geometry import Grid, reordering_between
from unprompted.io.base import read_image
from unprompted.io.video import write_film


def stored(volume, written):
    """The voxels of a volume back in the order (slice, row, column) in which they were written."""
    shape = written.voxels.shape[:3]
    return reordering_between(volume.grid, Grid(shape, written.plane.affine)).apply(volume.voxels)


@pytest.mark.parametrize("plane", PLANES)
def test_every_plane_gives_each_voxel_its_place(tmp_path, plane):
    written = write_series(tmp_path / "a", PLANES[plane])
    volume = read_image(tmp_path / "a")
    assert volume.grid.directions in ("SPL", "AIL", "RIP")
    assert (stored(volume, written) == written.voxels).all()


def test_a_voxel_of_a_sagittal_series_lies_where_the_header_says(tmp_path):
    plane = Plane((0, 1, 0), (0, 0, -1), (3, 0, 0), origin=(10, 20, 30), spacing=(0.5, 0.25))
    written = write_series(tmp_path / "a", plane)
    volume = read_image(tmp_path / "a")
    # slice 2, row 4, column 8 in LPS: (10 + 2 * 3, 20 + 8 * 0.25, 30 - 4 * 0.5) = (16, 22, 28)
    index = np.linalg.inv(volume.grid.affine) @ [-16, -22, 28, 1]
    d, h, w = np.round(index[:3]).astype(int)
    assert volume.voxels[d, h, w] == written.voxels[2, 4, 8]


def test_a_file_stands_for_the_series_it_is_part_of(tmp_path):
    written = write_series(tmp_path / "a")
    write_series(tmp_path / "a" / "elsewhere", seed=1)
    assert (read_image(written.files[3]).voxels == read_image(written.files[0]).voxels).all()
    assert read_image(written.files[3]).voxels.shape == (6, 10, 12)


def test_files_without_an_ending_are_known_by_their_preamble(tmp_path):
    written = write_series(tmp_path / "a")
    for number, file in enumerate(written.files):
        file.rename(file.with_name(f"1.2.840.99.{number}"))
    (tmp_path / "a" / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "a" / "notes").write_text("nothing of interest")
    assert (stored(read_image(tmp_path / "a"), written) == written.voxels).all()


@pytest.mark.parametrize("plane", ["axial", "coronal reversed", "tilted"])
def test_frames_of_an_enhanced_file_have_their_own_place_and_rescaling(tmp_path, plane):
    written = write_enhanced(tmp_path / "a", PLANES[plane])
    volume = read_image(tmp_path / "a" / "enhanced.dcm")
    slopes = np.arange(1, 5).reshape(4, 1, 1)
    assert (stored(volume, written) == written.voxels * slopes - 5).all()


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_compressed_slices_are_decoded(tmp_path, syntax):
    written = write_series(tmp_path / "a", RescaleIntercept=0)
    for file in written.files:
        dataset = pydicom.dcmread(file)
        dataset.PixelRepresentation = 0
        dataset.compress(syntax, generate_instance_uid=False)
        dataset.save_as(file)
    assert (stored(read_image(tmp_path / "a"), written) == written.voxels + 1024).all()


def test_low_values_of_monochrome1_are_bright(tmp_path):
    written = write_series(tmp_path / "a", shape=(2, 4, 4), PhotometricInterpretation="MONOCHROME1")
    # signed 16 bits, stored v + 1024: turned to -1 - (v + 1024), and -1024 by rescaling
    assert (stored(read_image(tmp_path / "a"), written) == -2049 - written.voxels.astype(int)).all()


@pytest.mark.parametrize("colour", ["RGB", "MONOCHROME2"])
def test_a_clip_is_a_video(tmp_path, colour):
    written = write_clip(tmp_path / "clip.dcm", colour=colour)
    volume = read_image(tmp_path / "clip.dcm")
    assert volume.axis == "t"
    assert not volume.grid.in_mm
    assert (volume.voxels == written.voxels).all()


def test_a_clip_stored_as_one_film_is_decoded(tmp_path):
    pixels = np.repeat(np.linspace(0, 255, 4).astype(np.uint8), 32 * 48 * 3).reshape(4, 32, 48, 3)
    write_film(tmp_path / "film.mp4", iter(pixels), Fraction(10))
    file = write_clip(tmp_path / "clip.dcm", frames=4, size=(32, 48)).files[0]
    dataset = pydicom.dcmread(file)
    dataset.PixelData = encapsulate([(tmp_path / "film.mp4").read_bytes()], fragments_per_frame=3)
    save(dataset, file, MPEG4HP41)
    volume = read_image(file)
    assert volume.axis == "t"
    assert (volume.voxels == read_image(tmp_path / "film.mp4").voxels).all()


def test_a_film_of_fewer_frames_than_promised_is_refused(tmp_path):
    write_film(tmp_path / "film.mp4", iter(np.zeros((2, 32, 48, 3), np.uint8)), Fraction(10))
    file = write_clip(tmp_path / "clip.dcm", frames=4, size=(32, 48)).files[0]
    dataset = pydicom.dcmread(file)
    dataset.PixelData = encapsulate([(tmp_path / "film.mp4").read_bytes()])
    save(dataset, file, MPEG4HP41)
    with pytest.raises(UnreadableFile, match="only 2 of 4 frames"):
        read_image(file)


def test_a_gantry_tilt_is_said_and_every_slice_stays_where_it_was(tmp_path, caplog):
    written = write_series(tmp_path / "a", PLANES["gantry"])
    volume = read_image(tmp_path / "a")
    assert "tilted by 14.9 degrees" in caplog.text  # atan(0.8 / 3)
    assert (stored(volume, written) == written.voxels).all()


def test_one_missing_slice_is_filled_between_its_neighbours_and_that_is_said(tmp_path, caplog):
    written = write_series(tmp_path / "a", slices=[0, 1, 3, 4, 5], shape=(5, 10, 12))
    volume = read_image(tmp_path / "a")
    assert "3 to 6 mm apart" in caplog.text
    assert volume.grid.shape == (6, 10, 12)
    assert volume.grid.spacing[0] == pytest.approx(3)
    kept = volume.voxels[[0, 1, 3, 4, 5]]
    assert (kept == written.voxels).all()
    between = (written.voxels[1].astype(float) + written.voxels[2]) / 2
    assert np.abs(volume.voxels[2] - between).max() < 1e-3


def test_uneven_slices_are_resampled_to_even_ones(tmp_path, caplog):
    write_series(tmp_path / "a", slices=[0, 1, 2, 3.4, 4.4, 5.4])
    volume = read_image(tmp_path / "a")
    assert "resampled linearly" in caplog.text
    assert volume.grid.shape[0] == 6
    assert volume.grid.spacing[0] == pytest.approx(5.4 * 3 / 5)


def test_positions_rounded_to_a_tenth_of_a_millimetre_are_even(tmp_path, caplog):
    write_series(tmp_path / "a", slices=[0, 1.01, 1.99, 3.01, 4, 5])
    assert read_image(tmp_path / "a").grid.spacing[0] == pytest.approx(3)
    assert "resampled" not in caplog.text


def several_directions(folder):
    write_series(folder, ImageOrientationPatient=lambda n: [1, 0, 0, 0, 1, 0] if n else [0, 1, 0, 0, 0, -1])


def shifted(folder):
    write_series(folder, ImagePositionPatient=lambda n: [-20 + 4 * (n == 2), -30, 40 + 3 * n])


def no_plane(folder):
    write_series(folder, ImageOrientationPatient=[1, 0, 0, 1, 0, 0])


def some_without_a_place(folder):
    for file in write_series(folder).files[:2]:
        dataset = pydicom.dcmread(file)
        del dataset.ImagePositionPatient
        dataset.save_as(file)


def two_sizes(folder):
    written = write_series(folder)
    dataset = pydicom.dcmread(written.files[0])
    dataset.Rows, dataset.PixelData = 5, dataset.PixelData[: 5 * 12 * 2]
    dataset.save_as(written.files[0])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda f: write_series(f, slices=[0, 1, 2, 6, 7, 8]), "slices are missing after slice 3 of 6"),
        (lambda f: write_series(f, slices=[0, 1, 2, 0, 1, 2]), "6 slices lie at 3 places"),
        (several_directions, "another direction"),
        (shifted, "shifted against each other"),
        (no_plane, "describe no plane"),
        (some_without_a_place, "2 of 6 slices say nothing of where they lie"),
        (two_sizes, "several sizes"),
    ],
)
def test_what_makes_no_volume_is_refused(tmp_path, make, words):
    make(tmp_path / "a")
    with pytest.raises(DataRefused, match=words):
        read_image(tmp_path / "a")


def test_a_folder_of_two_series_is_refused_with_their_numbers(tmp_path):
    write_series(tmp_path / "a" / "one", SeriesNumber=4, SeriesDescription="portal")
    write_series(tmp_path / "a" / "two", SeriesNumber=7)
    with pytest.raises(
        DataRefused, match=r"2 image series .*4: CT 'portal', 6 files; 7: CT 'thorax', 6 files"
    ):
        read_image(tmp_path / "a")


def test_a_localizer_beside_the_series_is_passed_over(tmp_path):
    written = write_series(tmp_path / "a" / "one")
    write_series(tmp_path / "a" / "two", shape=(1, 10, 12), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    assert (stored(read_image(tmp_path / "a"), written) == written.voxels).all()


@pytest.mark.parametrize("content", [b"", b"not DICOM at all", bytes(128) + b"DICM" + b"\xff" * 40])
def test_a_file_that_is_no_dicom_is_refused(tmp_path, content):
    (tmp_path / "a.dcm").write_bytes(content)
    with pytest.raises(UnreadableFile, match=r"a\.dcm"):
        read_image(tmp_path / "a.dcm")


def test_pixels_that_are_cut_off_are_refused(tmp_path):
    written = write_series(tmp_path / "a")
    dataset = pydicom.dcmread(written.files[2])
    dataset.PixelData = dataset.PixelData[:40]
    save(dataset, written.files[2])
    with pytest.raises(UnreadableFile, match="cannot be decoded"):
        read_image(tmp_path / "a")
