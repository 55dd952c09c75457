import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from unprompted.datasets.folder import load_case, recognise
from unprompted.errors import DataRefused, LabelRefused, UnreadableFile
from unprompted.support import SupportSet

SHARED = Path(__file__).parents[4] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data is absent")


def nifti(path, value=0, shape=(2, 2, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.full(shape, value, np.uint8) if np.isscalar(value) else np.asarray(value, np.uint8)
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 1.0, 3.0, 1.0])), path)


def png(path, values=((0, 1),)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path)


def describe(folder, **entries):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(entries))


def nnunet(folder, labels=None, cases=("a", "b"), value=1):
    for case in cases:
        nifti(folder / "imagesTr" / f"{case}_0000.nii.gz")
        nifti(folder / "labelsTr" / f"{case}.nii.gz", value)
    describe(folder, channel_names={"0": "CT"}, labels=labels or {"background": 0, "liver": 1})
    return folder


def names(layout):
    return [case.name for case in layout.cases]


def test_nnunet_raw_is_recognised_and_the_channel_is_no_part_of_the_name(tmp_path):
    layout = recognise(nnunet(tmp_path / "Dataset001_Liver"), need_labels=True)
    assert (layout.kind, names(layout), layout.classes) == ("nnU-Net", ["a", "b"], {1: "liver"})
    assert layout.note == "nnU-Net layout, 2 cases with labels, classes liver"
    volume, labels = load_case(layout.cases[0], layout.classes)
    assert (volume.name, labels.classes) == ("a", {1: "liver"})
    assert labels.grid.same_space(volume.grid)


def test_nnunet_queries_are_the_test_images_where_there_are_any(tmp_path):
    nnunet(tmp_path)
    assert names(recognise(tmp_path, need_labels=False)) == ["a", "b"]
    nifti(tmp_path / "imagesTs" / "q_0000.nii.gz")
    layout = recognise(tmp_path, need_labels=False)
    assert (names(layout), layout.cases[0].labels) == (["q"], None)
    assert layout.note == "nnU-Net layout, 1 case, images of imagesTs"


def test_a_folder_of_nnunet_images_alone_loses_the_channel_too(tmp_path):
    nnunet(tmp_path)
    assert names(recognise(tmp_path / "imagesTr", need_labels=False)) == ["a", "b"]


def test_a_number_that_is_part_of_the_case_name_is_no_channel(tmp_path):
    for case in ("btcv_0001", "btcv_0002"):
        nifti(tmp_path / "imagesTr" / f"{case}.nii.gz")
        nifti(tmp_path / "labelsTr" / f"{case}.nii.gz", 1)
        nifti(tmp_path / "imagesTs" / f"{case}.nii.gz")
    for folder in (tmp_path, tmp_path / "imagesTs"):
        assert names(recognise(folder, need_labels=False)) == ["btcv_0001", "btcv_0002"]


def test_slices_with_the_nnunet_ignore_label_count_as_unlabelled(tmp_path):
    value = np.ones((2, 2, 3))
    value[0, 0, 1] = 2
    layout = recognise(
        nnunet(tmp_path, {"background": 0, "liver": 1, "ignore": 2}, ("a",), value), need_labels=True
    )
    assert layout.classes == {1: "liver"}
    assert "slices with the ignore label 2 count as unlabelled" in layout.note
    _, labels = load_case(layout.cases[0])
    assert labels.labelled.tolist() == [True, False, True]
    assert labels.labels.max() == 1


def test_nnunet_regions_leave_classes_without_names(tmp_path):
    layout = recognise(nnunet(tmp_path, {"background": 0, "whole": [1, 2]}), need_labels=True)
    assert layout.classes is None
    assert "regions are not used" in layout.note


def test_nnunet_cases_of_several_channels_are_refused(tmp_path):
    nnunet(tmp_path)
    nifti(tmp_path / "imagesTr" / "a_0001.nii.gz")
    with pytest.raises(DataRefused, match=r"several channels are not read: a \(0000, 0001\)"):
        recognise(tmp_path, need_labels=True)


def test_msd_is_recognised_and_macos_twins_are_skipped(tmp_path):
    for case in ("h_001", "h_002"):
        nifti(tmp_path / "imagesTr" / f"{case}.nii.gz")
        nifti(tmp_path / "labelsTr" / f"{case}.nii.gz", 1)
        (tmp_path / "imagesTr" / f"._{case}.nii.gz").write_bytes(b"\0")
    (tmp_path / "imagesTs").mkdir()
    describe(tmp_path, labels={"0": "background", "1": "Anterior", "2": "Posterior"}, training=[])
    layout = recognise(tmp_path, need_labels=True)
    assert layout.note == "MSD layout, 2 cases with labels, classes Anterior, Posterior"
    assert (names(layout), layout.classes) == (["h_001", "h_002"], {1: "Anterior", 2: "Posterior"})


@pytest.mark.parametrize("content", ["{", "[]", '{"labels": 3}', '{"labels": {"liver": "one"}}'])
def test_a_damaged_dataset_json_is_refused(tmp_path, content):
    nnunet(tmp_path)
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(DataRefused, match=r"dataset\.json"):
        recognise(tmp_path, need_labels=True)


def test_a_missing_dataset_json_is_said(tmp_path):
    nnunet(tmp_path)
    (tmp_path / "dataset.json").unlink()
    assert "no dataset.json, so classes have no names" in recognise(tmp_path, need_labels=True).note


@pytest.mark.parametrize("folder", ["labels", "masks"])
def test_plain_pairs_go_by_equal_names_whatever_the_format(tmp_path, folder):
    for case in ("x1", "x2"):
        png(tmp_path / "images" / f"{case}.jpg")
        png(tmp_path / folder / f"{case}.png")
    layout = recognise(tmp_path, need_labels=True)
    assert layout.note == f"pairs layout, 2 cases with labels, images/ and {folder}/"
    assert [(c.image.name, c.labels.name) for c in layout.cases] == [
        ("x1.jpg", "x1.png"),
        ("x2.jpg", "x2.png"),
    ]


def test_plain_pairs_take_class_names_of_labels_json(tmp_path):
    png(tmp_path / "images" / "a.png")
    png(tmp_path / "masks" / "a.png")
    (tmp_path / "labels.json").write_text('{"1": "polyp"}')
    assert recognise(tmp_path, need_labels=True).classes == {1: "polyp"}


def test_films_pair_with_folders_of_masks(tmp_path):
    for name in ("00000", "00002"):
        png(tmp_path / "masks" / "seq" / f"{name}.png")
    for t in range(3):
        png(tmp_path / "images" / "seq" / f"{t:05d}.png")
    volume, labels = load_case(recognise(tmp_path, need_labels=True).cases[0])
    assert volume.axis == "t"
    assert labels.labelled.tolist() == [True, False, True]


def test_queries_of_a_labelled_folder_have_no_labels_and_need_no_match(tmp_path):
    png(tmp_path / "images" / "a.png")
    png(tmp_path / "masks" / "other.png")
    layout = recognise(tmp_path, need_labels=False)
    assert [(c.name, c.labels) for c in layout.cases] == [("a", None)]
    assert load_case(layout.cases[0])[1] is None


def test_images_without_label_are_listed(tmp_path):
    for case in ("a", "b", "c"):
        png(tmp_path / "images" / f"{case}.png")
    png(tmp_path / "masks" / "b.png")
    with pytest.raises(DataRefused, match="2 of 3 images have no label of the same name: a, c;"):
        recognise(tmp_path, need_labels=True)


def test_labels_without_image_are_listed(tmp_path):
    png(tmp_path / "images" / "a.png")
    for case in ("a", "b"):
        png(tmp_path / "masks" / f"{case}.png")
    with pytest.raises(DataRefused, match="1 of 2 labels have no image of the same name: b;"):
        recognise(tmp_path, need_labels=True)


def test_a_case_that_is_there_twice_is_refused(tmp_path):
    png(tmp_path / "images" / "a.png")
    png(tmp_path / "images" / "a.bmp")
    with pytest.raises(DataRefused, match=r"case a is there twice: a\.bmp and a\.png"):
        recognise(tmp_path, need_labels=False)


def test_labels_and_masks_together_are_refused(tmp_path):
    for folder in ("images", "masks", "labels"):
        png(tmp_path / folder / "a.png")
    with pytest.raises(DataRefused, match="both labels/ and masks/"):
        recognise(tmp_path, need_labels=True)


def test_images_without_a_label_folder_are_refused(tmp_path):
    png(tmp_path / "images" / "a.png")
    with pytest.raises(DataRefused, match="neither labels/ nor masks/"):
        recognise(tmp_path, need_labels=True)


def test_img_and_label_endings_pair_in_one_folder(tmp_path):
    nifti(tmp_path / "p1_img.nii.gz")
    nifti(tmp_path / "p1_label.nii.gz", 1)
    layout = recognise(tmp_path, need_labels=True)
    assert (layout.kind, names(layout)) == ("suffixes", ["p1"])
    assert [c.labels for c in recognise(tmp_path, need_labels=False).cases] == [None]
    nifti(tmp_path / "p2.nii.gz")
    with pytest.raises(DataRefused, match=r"beside \*_img and \*_label there are p2\.nii\.gz"):
        recognise(tmp_path, need_labels=True)


def test_sequences_are_recognised_and_frames_without_mask_are_unlabelled(tmp_path):
    for sequence in ("s1", "s2"):
        for t in range(3):
            png(tmp_path / sequence / "frames" / f"{t}.png")
        png(tmp_path / sequence / "masks" / "1.png")
    layout = recognise(tmp_path, need_labels=True)
    assert layout.note == "sequences layout, 2 cases with labels, 2 of 6 frames have a mask"
    volume, labels = load_case(layout.cases[1])
    assert (volume.name, volume.axis, labels.labelled.tolist()) == ("s2", "t", [False, True, False])
    assert len(SupportSet.from_cases([(volume, labels)]).examples) == 1


def test_one_sequence_can_be_given_alone_or_by_its_frames(tmp_path):
    png(tmp_path / "s1" / "frames" / "0.png")
    png(tmp_path / "s1" / "masks" / "0.png")
    assert names(recognise(tmp_path / "s1", need_labels=True)) == ["s1"]
    assert names(recognise(tmp_path / "s1" / "frames", need_labels=False)) == ["s1"]


def test_sequences_without_masks_are_queries_but_no_support(tmp_path):
    png(tmp_path / "s1" / "frames" / "0.png")
    assert recognise(tmp_path, need_labels=False).note == "sequences layout, 1 case, 1 frame"
    with pytest.raises(DataRefused, match="sequences without a masks/ folder: s1"):
        recognise(tmp_path, need_labels=True)


def test_folders_without_frames_beside_sequences_are_mentioned(tmp_path):
    png(tmp_path / "s1" / "frames" / "0.png")
    (tmp_path / "old").mkdir()
    assert "left out, without frames/: old" in recognise(tmp_path, need_labels=False).note


def test_a_flat_folder_holds_one_query_a_file(tmp_path):
    png(tmp_path / "b.png")
    png(tmp_path / "c.jpg")
    nifti(tmp_path / "a.nii.gz")
    (tmp_path / "readme.txt").write_text("hello")
    (tmp_path / "old").mkdir()
    layout = recognise(tmp_path, need_labels=False)
    assert (layout.kind, names(layout)) == ("images", ["a", "b", "c"])
    assert "each picture is a case" in layout.note
    assert "sub-folders left out: old" in layout.note


def test_a_flat_folder_of_images_is_no_support(tmp_path):
    png(tmp_path / "b.png")
    with pytest.raises(DataRefused, match="folder of images only; give a folder with images/ and labels/"):
        recognise(tmp_path, need_labels=True)


def test_archives_hold_image_and_label(tmp_path):
    np.savez(tmp_path / "case1.npz", image=np.zeros((2, 3, 4)), label=np.ones((2, 3, 4)))
    layout = recognise(tmp_path, need_labels=True)
    assert layout.note == "archives layout, 1 case with labels"
    assert load_case(layout.cases[0])[1].labels.shape == (2, 3, 4)
    assert recognise(tmp_path / "case1.npz", need_labels=True).cases == layout.cases
    assert recognise(tmp_path, need_labels=False).cases[0].labels is None


def test_a_single_file_is_a_query_but_no_support(tmp_path):
    nifti(tmp_path / "a.nii.gz")
    assert recognise(tmp_path / "a.nii.gz", need_labels=False).note == "one file, a.nii.gz"
    with pytest.raises(DataRefused, match="has no labels beside it"):
        recognise(tmp_path / "a.nii.gz", need_labels=True)


def test_masks_of_0_and_255_are_said_to_be_one_class(tmp_path):
    png(tmp_path / "images" / "a.png")
    png(tmp_path / "masks" / "a.png", [[0, 255]])
    layout = recognise(tmp_path, need_labels=True)
    assert layout.note.endswith("masks hold 0 and 255: 255 is taken as class 1")
    assert load_case(layout.cases[0])[1].labels.tolist() == [[[0, 1]]]


def test_255_beside_other_labels_is_no_guess(tmp_path):
    for case, values in (("a", [[0, 255]]), ("b", [[1, 2]])):
        png(tmp_path / "images" / f"{case}.png")
        png(tmp_path / "masks" / f"{case}.png", values)
    with pytest.raises(LabelRefused, match=r"0 and 255 \(a\.png\) and some other labels \(b\.png\)"):
        recognise(tmp_path, need_labels=True)


@pytest.mark.parametrize("need_labels", [True, False])
def test_an_empty_folder_is_refused(tmp_path, need_labels):
    with pytest.raises(DataRefused, match="the folder is empty; give a folder with") as caught:
        recognise(tmp_path, need_labels)
    assert caught.value.exit_code == 3


def test_empty_image_folders_are_refused(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(DataRefused, match="holds no image"):
        recognise(tmp_path, need_labels=False)
    (tmp_path / "images").rmdir()
    (tmp_path / "imagesTr").mkdir()
    with pytest.raises(DataRefused, match="holds no image"):
        recognise(tmp_path, need_labels=False)


def test_an_unknown_layout_is_refused_with_what_it_holds(tmp_path):
    (tmp_path / "stuff").mkdir()
    with pytest.raises(DataRefused, match="no known layout; it holds stuff/"):
        recognise(tmp_path, need_labels=False)


def test_files_of_unread_types_are_named(tmp_path):
    (tmp_path / "slice1.par").write_bytes(b"x")
    with pytest.raises(DataRefused, match=r"slice1\.par; convert them"):
        recognise(tmp_path, need_labels=False)


def test_nothing_at_the_path_is_refused(tmp_path):
    with pytest.raises(UnreadableFile, match="there is no such file or folder"):
        recognise(tmp_path / "none", need_labels=False)


@pytest.mark.data
@needs_shared
@pytest.mark.parametrize(
    ("folder", "kind", "count", "shape", "values"),
    [
        ("hippocampus", "MSD", 43, (34, 52, 35), {1, 2}),
        ("acdc", "pairs", 4, (10, 256, 216), {1, 2, 3}),
        ("sunnybrook", "pairs", 4, (9, 256, 256), {1, 2}),
        ("wbc", "pairs", 60, (1, 120, 120, 3), {1, 2}),
        ("sunnybrook_cine", "sequences", 2, (20, 256, 256), {1}),
        ("cvc_clinicdb_video", "sequences", 2, (25, 288, 384, 3), {1}),
    ],
)
def test_real_folders_are_read_without_conversion(folder, kind, count, shape, values):
    layout = recognise(SHARED / folder, need_labels=True)
    assert (layout.kind, len(layout.cases)) == (kind, count)
    volume, labels = load_case(layout.cases[0])
    assert volume.voxels.shape == shape
    assert set(np.unique(labels.labels)) - {0} == values
    assert volume.grid.same_space(labels.grid)
