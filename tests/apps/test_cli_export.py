"""Results of a run in the layouts of other programs."""

import json

import nibabel as nib
import numpy as np
import SimpleITK as sitk

from unprompted.datasets.folder import load_case, recognise
from unprompted.io.base import read_image, read_labels


def labels_of(path):
    return np.asarray(nib.load(path).dataobj)


def set_predicted_dice(finished, case, dice):
    path = finished / "cases" / f"{case}.json"
    record = json.loads(path.read_text())
    for entry in record["predicted_dice"].values():
        entry["dice"] = dice
    path.write_text(json.dumps(record))


def test_slicer_gets_segmentations_with_names_and_a_colour_table(call, finished, tmp_path):
    assert call("export", finished, "--to", "slicer", "-o", tmp_path / "s").code == 0
    assert (tmp_path / "s" / "labels.ctbl").read_text().splitlines()[1:] == [
        "0 Background 0 0 0 0",
        "1 organ_1 230 159 0 255",
        "2 organ_2 86 180 233 255",
    ]
    image = sitk.ReadImage(tmp_path / "s" / "query-3.seg.nrrd")
    assert image.GetMetaData("Segment0_Name") == "organ 1"
    back = read_labels(tmp_path / "s" / "query-3.seg.nrrd")
    original = read_labels(finished / "query-3.nii.gz")
    assert (back.labels == original.labels).all()
    assert back.grid.same_space(original.grid)


def test_itksnap_gets_its_label_descriptions(call, finished, tmp_path):
    assert call("export", finished, "--to", "itksnap", "-o", tmp_path / "s").code == 0
    rows = [line.split(maxsplit=7) for line in (tmp_path / "s" / "labels.txt").read_text().splitlines()[1:]]
    assert rows[1] == ["1", "230", "159", "0", "1", "1", "1", '"organ 1"']
    assert (labels_of(tmp_path / "s" / "query-4.nii.gz") == labels_of(finished / "query-4.nii.gz")).all()


def test_bids_gets_a_derivatives_dataset(call, finished, case_folder, tmp_path):
    ended = call("export", finished, "--to", "bids", "-o", tmp_path / "b", "-i", case_folder / "queries")
    assert ended.code == 0
    description = json.loads((tmp_path / "b" / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "unprompted"
    stem = tmp_path / "b" / "sub-query3" / "anat" / "sub-query3_space-orig_desc-unprompted_dseg"
    assert (labels_of(f"{stem}.nii.gz") == labels_of(finished / "query-3.nii.gz")).all()
    rows = stem.with_name(f"{stem.name}.tsv").read_text().splitlines()
    assert rows == ["index\tname\tcolor", "1\torgan 1\t#e69f00", "2\torgan 2\t#56b4e9"]
    sidecar = json.loads(stem.with_name(f"{stem.name}.json").read_text())
    assert sidecar["Sources"] == ["bids:raw:query-3.nii.gz"]


def test_nnunet_gets_labelled_and_pseudo_labelled_cases(call, finished, case_folder, tmp_path):
    set_predicted_dice(finished, "query-3", 0.8)
    set_predicted_dice(finished, "query-4", 0.2)
    target = tmp_path / "Dataset001_Organs"
    ended = call(
        "export",
        finished,
        "--to",
        "nnunet",
        "-o",
        target,
        "-i",
        case_folder / "queries",
        "-s",
        case_folder / "support",
    )
    assert ended.code == 0, ended.err
    assert "look at them first: query-4" in ended.out
    description = json.loads((target / "dataset.json").read_text())
    assert description["labels"] == {"background": 0, "organ 1": 1, "organ 2": 2}
    assert description["numTraining"] == 3
    assert description["pseudo_labelled"] == ["query-3"]
    assert sorted(f.name for f in (target / "imagesTr").iterdir()) == [
        "labelled-1_0000.nii.gz",
        "labelled-2_0000.nii.gz",
        "query-3_0000.nii.gz",
    ]
    assert (target / "cases.tsv").read_text().splitlines()[3] == "query-3\tpseudo\t0.8"
    layout = recognise(target, need_labels=True)
    assert layout.kind == "nnU-Net"
    volume, labels = load_case(layout.cases[2], layout.classes)
    assert volume.grid.same_space(labels.grid)
    assert (labels.labels == read_labels(finished / "query-3.nii.gz").labels).all()
    assert (volume.voxels == read_image(case_folder / "queries" / "query-3.nii.gz").voxels).all()


def test_nnunet_needs_the_images(call, finished, tmp_path):
    ended = call("export", finished, "--to", "nnunet", "-o", tmp_path / "n")
    assert ended.code == 2
    assert "give them with -i" in ended.err


def test_an_export_does_not_mix_with_what_is_there(call, finished, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a").write_text("mine")
    ended = call("export", finished, "--to", "slicer", "-o", tmp_path / "there")
    assert ended.code == 2
    assert "is not empty" in ended.err


def test_an_unknown_target_and_a_folder_without_results_are_refused(call, finished, tmp_path):
    assert call("export", finished, "--to", "word", "-o", tmp_path / "x").code == 2
    (tmp_path / "empty").mkdir()
    ended = call("export", tmp_path / "empty", "--to", "slicer", "-o", tmp_path / "y")
    assert ended.code == 3
    assert "holds no finished case" in ended.err
