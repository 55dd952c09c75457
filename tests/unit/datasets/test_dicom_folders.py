"""Folders and zip files of DICOM as they come from archives and workstations."""

import shutil
import zipfile

import numpy as np
import pydicom
import pytest
from PIL import Image

from dicoms import PLANES, write_series
from unprompted.datasets.folder import load_case, recognise
from unprompted.errors import DataRefused, LabelRefused, UnreadableFile, UsageError
from unprompted.images import LabelMap
from unprompted.io.base import read_image, write_labels
from unprompted.io.dicom import archive
from unprompted.io.dicom.rtstruct_writing import write_rtstruct


def labelled(folder, classes, target=None, plane="axial", seed=0, **tags):
    """A series with a SEG of one box a class; gives back the label map."""
    write_series(folder, PLANES[plane], seed=seed, **tags)
    grid = read_image(folder).grid
    labels = np.zeros(grid.shape, np.uint8)
    for value in classes:
        labels[1:4, 2 * value : 2 * value + 2] = value
    label_map = LabelMap(labels, grid, classes)
    write_labels(label_map, target or folder.parent / "seg" / "seg.dcm", folder)
    return label_map


def zipped(folder, path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*.dcm")):
            archive.write(file, file.relative_to(folder))
    return path


def test_every_series_is_a_case_named_by_its_folder(tmp_path):
    write_series(tmp_path / "ward" / "anna" / "ct")
    write_series(tmp_path / "ward" / "bert" / "ct", seed=1)
    layout = recognise(tmp_path / "ward", need_labels=False)
    assert [case.name for case in layout.cases] == ["anna", "bert"]
    assert load_case(layout.cases[1])[0].grid.shape == (6, 10, 12)


def test_several_series_of_a_folder_are_told_apart_by_their_number(tmp_path):
    write_series(tmp_path / "study", SeriesNumber=4)
    for file in write_series(tmp_path / "more", seed=1, SeriesNumber=5).files:
        shutil.move(file, tmp_path / "study" / f"x{file.name}")
    layout = recognise(tmp_path / "study", need_labels=False)
    assert sorted(case.name.rsplit("-", 1)[0] for case in layout.cases) == [
        "study_series-4",
        "study_series-5",
    ]
    assert "4: CT 'thorax', 6 files" in layout.note


@pytest.mark.parametrize("word", ["5", "venous", "MR"])
def test_a_series_is_chosen_by_number_description_or_modality(tmp_path, word):
    write_series(tmp_path / "a", SeriesNumber=4, SeriesDescription="arterial")
    write_series(tmp_path / "b", SeriesNumber=5, SeriesDescription="portal venous", modality="MR")
    layout = recognise(tmp_path, need_labels=False, series=word)
    assert [case.name for case in layout.cases] == ["b"]
    assert "left out: 4: CT 'arterial', 6 files" in layout.note


def test_a_series_that_is_not_there_is_refused_with_those_that_are(tmp_path):
    write_series(tmp_path / "a", SeriesNumber=4)
    with pytest.raises(UsageError, match=r"no series is called '9'; there are 4: CT 'thorax', 6 files"):
        recognise(tmp_path, need_labels=False, series="9")


def test_an_object_goes_with_the_series_it_refers_to(tmp_path):
    first = labelled(tmp_path / "p1" / "ct", {1: "liver"}, tmp_path / "segs" / "x.dcm")
    second = labelled(tmp_path / "p2" / "ct", {1: "liver"}, tmp_path / "segs" / "y.dcm", "coronal", seed=1)
    layout = recognise(tmp_path, need_labels=True)
    for case, expected in zip(layout.cases, (first, second), strict=True):
        assert (load_case(case, layout.classes)[1].labels == expected.labels).all()


def test_classes_are_compared_by_name_for_objects_number_them_as_they_like(tmp_path):
    one = labelled(tmp_path / "p1" / "ct", {1: "spleen", 2: "liver"})
    other = labelled(tmp_path / "p2" / "ct", {1: "Liver"}, seed=1)
    layout = recognise(tmp_path, need_labels=True)
    assert layout.classes == {1: "liver", 2: "spleen"}
    first, second = (load_case(case, layout.classes)[1].labels for case in layout.cases)
    assert (first == np.array([0, 2, 1], np.uint8)[one.labels]).all()
    assert (second == other.labels).all()


def test_an_object_of_an_absent_series_is_matched_by_where_it_lies(tmp_path):
    expected = labelled(tmp_path / "p1" / "ct", {1: "liver"})
    labelled(tmp_path / "p2" / "ct", {1: "liver"}, seed=1)
    for file in (tmp_path / "p1" / "ct").iterdir():  # as after another anonymisation: new UIDs
        dataset = pydicom.dcmread(file)
        dataset.SeriesInstanceUID = "1.2.3.4"
        dataset.FrameOfReferenceUID = "1.2.3.5"
        dataset.save_as(file)
    layout = recognise(tmp_path, need_labels=True)
    assert (load_case(layout.cases[0], layout.classes)[1].labels == expected.labels).all()


def test_an_object_that_could_belong_to_several_series_is_refused(tmp_path):
    labelled(tmp_path / "p1" / "ct", {1: "liver"}, tmp_path / "seg.dcm")
    shutil.rmtree(tmp_path / "p1")
    write_series(tmp_path / "a")
    write_series(tmp_path / "b")
    with pytest.raises(LabelRefused, match="2 series could be meant"):
        recognise(tmp_path, need_labels=True)


def test_objects_of_several_organs_make_one_label_map(tmp_path):
    labelled(tmp_path / "p" / "ct", {1: "liver"}, tmp_path / "p" / "objects" / "a.dcm")
    grid = read_image(tmp_path / "p" / "ct").grid
    spleen = np.zeros(grid.shape, np.uint8)
    spleen[2, 8:] = 1
    write_rtstruct(
        LabelMap(spleen, grid, {1: "spleen"}), tmp_path / "p" / "objects" / "b.dcm", tmp_path / "p" / "ct"
    )
    layout = recognise(tmp_path, need_labels=True)
    labels = load_case(layout.cases[0], layout.classes)[1]
    assert labels.classes == {1: "liver", 2: "spleen"}
    assert ((labels.labels == 2) == (spleen == 1)).all()
    assert (labels.labels == 1).sum() == 3 * 2 * 12


def test_two_objects_of_one_organ_are_refused(tmp_path):
    labelled(tmp_path / "p" / "ct", {1: "liver"}, tmp_path / "p" / "objects" / "a.dcm")
    shutil.copy(tmp_path / "p" / "objects" / "a.dcm", tmp_path / "p" / "objects" / "b.dcm")
    with pytest.raises(LabelRefused, match="liver more than once"):
        recognise(tmp_path, need_labels=True)


def test_overlapping_segments_are_told_and_the_later_one_stays(tmp_path, caplog):
    labelled(tmp_path / "p" / "ct", {1: "liver"}, tmp_path / "p" / "objects" / "a.dcm")
    grid = read_image(tmp_path / "p" / "ct").grid
    tumour = np.zeros(grid.shape, np.uint8)
    tumour[2, 2, 3:6] = 1
    write_rtstruct(
        LabelMap(tumour, grid, {1: "tumour"}), tmp_path / "p" / "objects" / "b.dcm", tmp_path / "p" / "ct"
    )
    layout = recognise(tmp_path, need_labels=True)
    labels = load_case(layout.cases[0], layout.classes)[1].labels
    assert "3 voxels of liver are also in tumour" in caplog.text
    assert ((labels == 2) == (tumour == 1)).all()


def test_images_and_labels_folders_may_hold_series_and_objects(tmp_path):
    expected = labelled(tmp_path / "images" / "a", {1: "liver"}, tmp_path / "labels" / "a.dcm")
    layout = recognise(tmp_path, need_labels=True)
    assert layout.kind == "pairs"
    assert (load_case(layout.cases[0], layout.classes)[1].labels == expected.labels).all()


def test_loose_slices_among_images_are_refused(tmp_path):
    write_series(tmp_path / "images")
    with pytest.raises(DataRefused, match="slices of one DICOM series"):
        recognise(tmp_path, need_labels=False)


def test_radiographs_of_one_series_are_a_case_each(tmp_path):
    for file in write_series(tmp_path / "dx", shape=(2, 8, 8), modality="DX").files:
        dataset = pydicom.dcmread(file)
        del dataset.ImagePositionPatient, dataset.ImageOrientationPatient
        dataset.save_as(file)
    layout = recognise(tmp_path / "dx", need_labels=False)
    assert len(layout.cases) == 2
    pictures = [load_case(case)[0] for case in layout.cases]
    assert {picture.grid.shape for picture in pictures} == {(1, 8, 8)}
    assert not (pictures[0].voxels == pictures[1].voxels).all()


def test_a_series_spread_over_folders_is_refused(tmp_path):
    written = write_series(tmp_path / "all" / "a")
    (tmp_path / "all" / "b").mkdir()
    shutil.move(written.files[0], tmp_path / "all" / "b")
    with pytest.raises(DataRefused, match=r"lies in several folders \(a, b\)"):
        recognise(tmp_path / "all", need_labels=False)


def test_a_zip_is_read_as_the_folder_it_holds(tmp_path):
    expected = labelled(tmp_path / "in" / "ct", {1: "liver"})
    layout = recognise(zipped(tmp_path / "in", tmp_path / "study.zip"), need_labels=True)
    assert [case.name for case in layout.cases] == ["study"]
    assert (load_case(layout.cases[0], layout.classes)[1].labels == expected.labels).all()


def test_names_inside_a_zip_are_no_paths(tmp_path):
    files = write_series(tmp_path / "in").files
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for number, file in enumerate(files):
            archive.write(file, f"../../evil{number}.dcm")
        archive.write(files[0], "/etc/evil.dcm")
        link = zipfile.ZipInfo("link.dcm")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    folder = recognise_files(tmp_path / "x.zip")
    assert not list(tmp_path.rglob("evil*"))
    assert all(
        f.is_file() and not f.is_symlink() and f.resolve().is_relative_to(folder)
        for f in folder.rglob("*.dcm")
    )
    assert len(list(folder.rglob("*.dcm"))) == len(files) + 1


def recognise_files(path):
    return archive.extracted(path).resolve()


def test_a_decompression_bomb_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("a.dcm", bytes(30_000_000))
    with pytest.raises(DataRefused, match="decompression bomb"):
        recognise(tmp_path / "bomb.zip", need_labels=False)


def test_a_zip_of_too_many_files_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MOST_FILES", 3)
    written = write_series(tmp_path / "in")
    with pytest.raises(DataRefused, match="holds 6 files, more than 3"):
        recognise(zipped(written.folder, tmp_path / "x.zip"), need_labels=False)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip at all", b"\x00" * 100])
def test_a_file_that_is_no_zip_is_refused(tmp_path, content):
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(UnreadableFile, match=r"x\.zip: cannot be unpacked"):
        recognise(tmp_path / "x.zip", need_labels=False)


def test_a_folder_of_pictures_stays_a_folder_of_pictures(tmp_path):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.png")
    assert recognise(tmp_path, need_labels=False).kind == "images"


@pytest.mark.parametrize("end", [200, 420, 700])
def test_a_slice_that_is_cut_off_in_its_header_is_refused_in_one_line(tmp_path, end):
    file = write_series(tmp_path / "a").files[2]
    file.write_bytes(file.read_bytes()[:end])
    with pytest.raises(UnreadableFile, match=file.name):
        recognise(tmp_path / "a", need_labels=False)


@pytest.mark.filterwarnings("ignore:Invalid value for VR IS")
def test_a_value_that_is_none_of_its_kind_is_refused_in_one_line(tmp_path):
    for file in write_series(tmp_path / "a", SeriesNumber=1234).files:
        file.write_bytes(file.read_bytes().replace(b"1234", b"12x4"))
    with pytest.raises(UnreadableFile, match="a: cannot be read"):
        recognise(tmp_path / "a", need_labels=False)
