"""SEG and RTSTRUCT objects written, checked by `dciodvfy`, and read back voxel by voxel."""

import highdicom as hd
import numpy as np
import pydicom
import pytest

from dicoms import PLANES, errors_of, write_clip, write_enhanced, write_series
from unprompted.errors import DataRefused, GeometryMismatch, LabelRefused, UnreadableFile
from unprompted.geometry import Grid, reordering_between
from unprompted.images import LabelMap
from unprompted.io.base import read_image, read_labels, result_path, write_labels
from unprompted.io.dicom.rtstruct import filled
from unprompted.io.dicom.rtstruct_writing import outlines_of, write_rtstruct
from unprompted.io.dicom.seg_writing import write_seg

CLASSES = {1: "liver", 2: "left kidney", 5: "my own thing"}


def labels_for(volume, empty_slices=2):
    """Three classes in a pattern that no order of axes repeats; the first slices are empty."""
    d, h, w = np.indices(volume.grid.shape)
    labels = np.array([0, 0, 1, 2, 5], np.uint8)[(d * 3 + h * h + 2 * w) % 5]
    labels[:empty_slices] = 0
    return LabelMap(labels, volume.grid, dict(CLASSES))


def by_name(back, labels):
    """Labels read back under the values they were written with."""
    values = {name: value for value, name in labels.classes.items()}
    table = np.zeros(256, np.uint8)
    for value, name in back.classes.items():
        table[value] = values[name]
    return table[back.labels]


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP", "FRACTIONAL"])
@pytest.mark.parametrize("plane", PLANES)
def test_a_seg_of_every_plane_and_kind_is_valid_and_comes_back_equal(tmp_path, plane, kind):
    write_series(tmp_path / "a", PLANES[plane])
    volume = read_image(tmp_path / "a")
    labels = labels_for(volume)
    sure = np.full(volume.grid.shape, 0.75, np.float16)
    write_seg(labels, tmp_path / "seg.dcm", tmp_path / "a", kind, sure)
    assert errors_of(tmp_path / "seg.dcm") == []
    assert (by_name(read_labels(tmp_path / "seg.dcm", volume.grid), labels) == labels.labels).all()


@pytest.mark.parametrize("plane", [name for name in PLANES if name != "gantry"])
def test_another_reader_finds_the_same_voxels_at_the_same_place(tmp_path, plane):
    written = write_series(tmp_path / "a", PLANES[plane])
    labels = labels_for(read_image(tmp_path / "a"))
    write_labels(labels, tmp_path / "seg.dcm", tmp_path / "a")
    volume = hd.seg.segread(tmp_path / "seg.dcm").get_volume(combine_segments=True)
    native = Grid(written.voxels.shape, written.plane.affine)
    ours = reordering_between(labels.grid, native).apply(labels.labels)
    found = 0
    for index in np.argwhere(volume.array):
        place = np.diag([-1, -1, 1, 1]) @ volume.affine @ [*index, 1]
        k, r, c = np.round((np.linalg.inv(native.affine) @ place)[:3]).astype(int)
        assert [0, 1, 2, 5][volume.array[tuple(index)]] == ours[k, r, c]
        found += 1
    assert found == np.count_nonzero(labels.labels)


def test_without_the_image_a_seg_lies_on_its_own_frames(tmp_path):
    write_series(tmp_path / "a", PLANES["coronal"])
    labels = labels_for(read_image(tmp_path / "a"))
    write_labels(labels, tmp_path / "seg.dcm", tmp_path / "a")
    back = read_labels(tmp_path / "seg.dcm")
    assert back.grid.shape == (4, 10, 12)  # two empty slices are not stored
    assert (by_name(back, labels) == labels.labels[2:]).all()
    assert np.allclose(back.grid.affine[:3, :3], labels.grid.affine[:3, :3])


def test_frames_that_begin_inside_a_byte_come_back_equal(tmp_path):
    write_series(tmp_path / "a", shape=(5, 7, 9))  # 63 pixels a frame
    labels = labels_for(read_image(tmp_path / "a"))
    write_labels(labels, tmp_path / "seg.dcm", tmp_path / "a")
    assert errors_of(tmp_path / "seg.dcm") == []
    assert (by_name(read_labels(tmp_path / "seg.dcm", labels.grid), labels) == labels.labels).all()


def test_a_seg_whose_pixels_are_cut_off_is_refused(tmp_path):
    write_series(tmp_path / "a")
    labels = labels_for(read_image(tmp_path / "a"))
    write_labels(labels, tmp_path / "seg.dcm", tmp_path / "a")
    dataset = pydicom.dcmread(tmp_path / "seg.dcm")
    dataset.PixelData = dataset.PixelData[:20]
    dataset.save_as(tmp_path / "seg.dcm")
    with pytest.raises(UnreadableFile, match="it is truncated"):
        read_labels(tmp_path / "seg.dcm", labels.grid)


def test_every_frame_is_written_where_asked(tmp_path):
    write_series(tmp_path / "a")
    labels = labels_for(read_image(tmp_path / "a"))
    write_seg(labels, tmp_path / "seg.dcm", tmp_path / "a", every_frame=True)
    assert int(pydicom.dcmread(tmp_path / "seg.dcm").NumberOfFrames) == 6 * 3
    assert read_labels(tmp_path / "seg.dcm").grid.same_space(labels.grid)


def test_segments_say_what_they_are(tmp_path):
    write_series(tmp_path / "a")
    write_labels(labels_for(read_image(tmp_path / "a")), tmp_path / "seg.dcm", tmp_path / "a")
    liver, kidney, own = pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence
    codes = [s.SegmentedPropertyTypeCodeSequence[0] for s in (liver, kidney, own)]
    assert [c.CodingSchemeDesignator for c in codes] == ["SCT", "SCT", "99UNPROMPTED"]
    assert [c.CodeMeaning for c in codes] == ["Liver", "Kidney", "my own thing"]
    assert codes[0].CodeValue == "10200004"
    assert codes[1].SegmentedPropertyTypeModifierCodeSequence[0].CodeValue == "7771000"
    assert {s.SegmentAlgorithmType for s in (liver, kidney, own)} == {"AUTOMATIC"}
    assert liver.SegmentAlgorithmName == "unprompted"
    assert len(liver.RecommendedDisplayCIELabValue) == 3
    assert [s.SegmentLabel for s in (liver, kidney, own)] == list(CLASSES.values())


def test_a_seg_belongs_to_the_study_and_space_of_its_series(tmp_path):
    source = pydicom.dcmread(write_series(tmp_path / "a").files[0])
    write_labels(labels_for(read_image(tmp_path / "a")), tmp_path / "seg.dcm", tmp_path / "a")
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    for name in ("StudyInstanceUID", "PatientID", "PatientName", "FrameOfReferenceUID"):
        assert seg[name].value == source[name].value
    assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == source.SeriesInstanceUID


def test_a_series_without_patient_data_gets_a_seg_too(tmp_path):
    for file in write_series(tmp_path / "a").files:
        dataset = pydicom.dcmread(file)
        for name in (
            "PatientName",
            "PatientBirthDate",
            "AccessionNumber",
            "StudyDate",
            "FrameOfReferenceUID",
        ):
            delattr(dataset, name)
        dataset.save_as(file)
    volume = read_image(tmp_path / "a")
    write_labels(labels_for(volume), tmp_path / "seg.dcm", tmp_path / "a")
    assert read_labels(tmp_path / "seg.dcm", volume.grid).labels.any()


def test_an_enhanced_file_gets_a_seg(tmp_path):
    file = write_enhanced(tmp_path / "a", PLANES["sagittal"]).files[0]
    labels = labels_for(read_image(file))
    write_labels(labels, tmp_path / "seg.dcm", file)
    assert errors_of(tmp_path / "seg.dcm") == []
    assert (by_name(read_labels(tmp_path / "seg.dcm", labels.grid), labels) == labels.labels).all()


def test_a_resampled_series_gets_a_seg_on_the_even_slices(tmp_path):
    write_series(tmp_path / "a", slices=[0, 1, 3, 4, 5], shape=(5, 10, 12))
    labels = labels_for(read_image(tmp_path / "a"))
    write_labels(labels, tmp_path / "seg.dcm", tmp_path / "a")
    assert errors_of(tmp_path / "seg.dcm") == []
    assert (by_name(read_labels(tmp_path / "seg.dcm", labels.grid), labels) == labels.labels).all()


@pytest.mark.parametrize("colour", ["RGB", "MONOCHROME2"])
def test_a_clip_gets_masks_and_a_film(tmp_path, colour):
    file = write_clip(tmp_path / "clip.dcm", colour=colour).files[0]
    labels = labels_for(read_image(file))
    target = result_path(tmp_path / "out", "clip", file)
    write_labels(labels, target, file)
    assert (read_labels(target / "masks").labels == labels.labels).all()
    assert (tmp_path / "out" / "clip_overlay.mp4").stat().st_size > 0


def test_a_clip_has_no_seg(tmp_path):
    file = write_clip(tmp_path / "clip.dcm").files[0]
    with pytest.raises(DataRefused, match="a clip lies nowhere"):
        write_seg(labels_for(read_image(file)), tmp_path / "seg.dcm", file)


def test_labels_without_any_voxel_are_a_valid_seg(tmp_path):
    write_series(tmp_path / "a")
    volume = read_image(tmp_path / "a")
    empty = LabelMap(np.zeros(volume.grid.shape, np.uint8), volume.grid, {1: "liver"})
    write_labels(empty, tmp_path / "seg.dcm", tmp_path / "a")
    assert errors_of(tmp_path / "seg.dcm") == []
    assert not read_labels(tmp_path / "seg.dcm", volume.grid).labels.any()


def test_labels_of_another_grid_are_refused(tmp_path):
    write_series(tmp_path / "a")
    grid = Grid.with_spacing((6, 10, 12), (3, 0.8, 0.6))
    with pytest.raises(GeometryMismatch):
        write_labels(
            LabelMap(np.ones(grid.shape, np.uint8), grid, {1: "a"}), tmp_path / "s.dcm", tmp_path / "a"
        )
    assert not (tmp_path / "s.dcm").exists()


@pytest.mark.parametrize("plane", PLANES)
def test_an_rtstruct_of_every_plane_is_valid_and_comes_back_equal(tmp_path, plane):
    write_series(tmp_path / "a", PLANES[plane])
    volume = read_image(tmp_path / "a")
    labels = labels_for(volume)
    write_rtstruct(labels, tmp_path / "rt.dcm", tmp_path / "a")
    assert errors_of(tmp_path / "rt.dcm") == []
    assert (by_name(read_labels(tmp_path / "rt.dcm", volume.grid), labels) == labels.labels).all()


def test_an_rtstruct_alone_has_no_voxels(tmp_path):
    write_series(tmp_path / "a")
    write_rtstruct(labels_for(read_image(tmp_path / "a")), tmp_path / "rt.dcm", tmp_path / "a")
    with pytest.raises(LabelRefused, match="only with their image"):
        read_labels(tmp_path / "rt.dcm")


def test_an_rtstruct_of_a_resampled_series_is_refused(tmp_path):
    write_series(tmp_path / "a", slices=[0, 1, 3, 4, 5], shape=(5, 10, 12))
    with pytest.raises(DataRefused, match="write a SEG"):
        write_rtstruct(labels_for(read_image(tmp_path / "a")), tmp_path / "rt.dcm", tmp_path / "a")


def test_outlines_run_along_pixel_edges_and_holes_are_outlines_of_their_own():
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    assert outlines_of(ring) == [[(0, 0), (0, 3), (3, 3), (3, 0)], [(1, 1), (2, 1), (2, 2), (1, 2)]]


def test_pixels_that_touch_at_a_corner_are_outlined_apart():
    assert len(outlines_of(np.eye(2, dtype=bool))) == 2


def test_a_pixel_is_inside_an_outline_where_its_centre_is():
    triangle = np.array([(-0.4, -0.4), (-0.4, 2.5), (2.5, -0.4)])
    # row 0 runs to column 2.1, row 1 to 1.1, row 2 to 0.1
    assert filled([triangle], (4, 4)).astype(int).tolist() == [
        [1, 1, 1, 0],
        [1, 1, 0, 0],
        [1, 0, 0, 0],
        [0, 0, 0, 0],
    ]


def test_an_outline_inside_another_cuts_a_hole_and_parts_outside_are_cut_off():
    def box(low, high):
        return np.array([(low, low), (low, high), (high, high), (high, low)]) - 0.5

    assert filled([box(-2, 4), box(1, 3)], (4, 4)).astype(int).tolist() == [
        [1, 1, 1, 1],
        [1, 0, 0, 1],
        [1, 0, 0, 1],
        [1, 1, 1, 1],
    ]


def test_a_seg_of_coarser_voxels_is_brought_to_the_nearest_and_that_is_said(tmp_path, caplog):
    write_series(tmp_path / "a")
    fine = read_image(tmp_path / "a")
    labels = labels_for(fine, empty_slices=0)
    write_labels(labels, tmp_path / "seg.dcm", tmp_path / "a")
    # twice as many voxels along every row and column, each covered by one of the old ones
    halved = fine.grid.affine @ np.diag([1, 0.5, 0.5, 1])
    halved[:3, 3] -= (fine.grid.affine[:3, 1] + fine.grid.affine[:3, 2]) / 4
    back = read_labels(tmp_path / "seg.dcm", Grid((6, 20, 24), halved))
    assert "resampled to the nearest" in caplog.text
    assert (by_name(back, labels) == labels.labels.repeat(2, 1).repeat(2, 2)).all()


def test_a_seg_of_another_place_is_refused(tmp_path):
    write_series(tmp_path / "a")
    labels = labels_for(read_image(tmp_path / "a"))
    write_labels(labels, tmp_path / "seg.dcm", tmp_path / "a")
    away = labels.grid.affine.copy()
    away[:3, 3] += 500
    with pytest.raises(LabelRefused, match="is it of another image"):
        read_labels(tmp_path / "seg.dcm", Grid(labels.grid.shape, away))


def test_a_dicom_object_needs_a_dicom_image(tmp_path):
    np.savez(tmp_path / "a.npz", image=np.zeros((2, 4, 4)), spacing=(1, 1, 1))
    grid = read_image(tmp_path / "a.npz").grid
    with pytest.raises(LabelRefused, match="choose another output format"):
        write_labels(
            LabelMap(np.ones(grid.shape, np.uint8), grid, {1: "a"}), tmp_path / "s.dcm", tmp_path / "a.npz"
        )


def test_a_series_whose_headers_allow_no_object_is_refused_with_a_way_out(tmp_path):
    written = write_series(tmp_path / "a")
    labels = labels_for(read_image(tmp_path / "a"))
    for file in written.files:
        file.write_bytes(
            file.read_bytes().replace(b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.840.10008.5.9.4.1.1.2\0")
        )
    with pytest.raises(DataRefused, match="choose --format nifti"):
        write_seg(labels, tmp_path / "seg.dcm", tmp_path / "a")
