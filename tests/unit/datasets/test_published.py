"""Each published dataset on a few tiny files of the exact names and formats."""

import json
from dataclasses import dataclass
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from PIL import Image

from unprompted.errors import DataRefused, UnreadableFile, UsageError
from unprompted.registry import DATASETS

SHAPE = (3, 8, 8)


def labels_of(*values):
    """The given values in columns of the middle slice."""
    labels = np.zeros(SHAPE, np.uint8)
    for column, value in enumerate(values):
        labels[1, 2:6, column] = value
    return labels


def image_of(labels):
    return (20 + 30.0 * labels).astype(np.int16)


def nifti(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array.transpose(2, 1, 0), np.diag([1.0, 1.0, 5.0, 1.0])), path)


def metaimage(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing((0.6, 0.6, 3.6))
    SimpleITK.WriteImage(image, str(path))


def picture(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def grey(value=90):
    return np.full((8, 8), value, np.uint8)


def spot(value=255, left=2):
    mask = np.zeros((8, 8), np.uint8)
    mask[2:5, left : left + 3] = value
    return mask


def write_synapse(root):
    for n in (1, 2):
        nifti(root / "img" / f"img{n:04d}.nii.gz", image_of(labels_of(1, 13)))
        nifti(root / "label" / f"label{n:04d}.nii.gz", labels_of(1, 13))


def write_transunet(root):
    for folder in ("train_npz", "test_vol_h5"):
        (root / folder).mkdir(parents=True)
    labels = labels_of(1, 8)
    for d in range(3):
        path = root / "train_npz" / f"case0005_slice{d:03d}.npz"
        np.savez(path, image=labels[d] / 8.0, label=labels[d].astype(np.float32))
    with h5py.File(root / "test_vol_h5" / "case0008.npy.h5", "w") as file:
        file["image"], file["label"] = labels / 8.0, labels.astype(np.float32)


def write_promise12(root):
    for n in (0, 1):
        part = root / f"TrainingData_Part{n + 1}"
        metaimage(part / f"Case{n:02d}.mhd", image_of(labels_of(1)))
        metaimage(part / f"Case{n:02d}_segmentation.mhd", labels_of(1).astype(np.int8))
    metaimage(root / "TestData" / "Case02.mhd", image_of(labels_of(1)))


def write_acdc(root):
    for side, patient in (("training", "patient001"), ("testing", "patient101")):
        for frame in ("frame01", "frame12"):
            stem = root / side / patient / f"{patient}_{frame}"
            nifti(stem.with_name(f"{stem.name}.nii.gz"), image_of(labels_of(1, 2, 3)))
            nifti(stem.with_name(f"{stem.name}_gt.nii.gz"), labels_of(1, 2, 3))
        nifti(root / side / patient / f"{patient}_4d.nii.gz", image_of(labels_of(1)))


def write_amos22(root):
    for side, number in (("Tr", 1), ("Va", 8), ("Tr", 507)):
        nifti(root / f"images{side}" / f"amos_{number:04d}.nii.gz", image_of(labels_of(1, 15)))
        nifti(root / f"labels{side}" / f"amos_{number:04d}.nii.gz", labels_of(1, 15))


def write_msd(root):
    for n in (1, 3):
        nifti(root / "imagesTr" / f"hippocampus_{n:03d}.nii.gz", image_of(labels_of(1, 2)))
        nifti(root / "labelsTr" / f"hippocampus_{n:03d}.nii.gz", labels_of(1, 2))
    (root / "imagesTr" / "._hippocampus_001.nii.gz").write_bytes(b"what macOS leaves behind")
    about = {"labels": {"0": "background", "1": "Anterior", "2": "Posterior"}, "numTraining": 260}
    (root / "dataset.json").write_text(json.dumps(about))


def write_camus(root):
    for view in ("2CH_ED", "4CH_ES"):
        stem = root / "patient0001" / f"patient0001_{view}"
        flat = labels_of(1, 2, 3)[1:2]
        nifti(stem.with_name(f"{stem.name}.nii.gz"), image_of(flat))
        nifti(stem.with_name(f"{stem.name}_gt.nii.gz"), flat)


def write_busi(root):
    for kind in ("benign", "malignant"):
        picture(root / kind / f"{kind} (1).png", grey())
        picture(root / kind / f"{kind} (1)_mask.png", spot(left=0))
    picture(root / "benign" / "benign (1)_mask_1.png", spot(left=5))
    picture(root / "normal" / "normal (1).png", grey())
    picture(root / "normal" / "normal (1)_mask.png", spot(0))


def write_isic2018(root):
    image = root / "ISIC2018_Task1-2_Training_Input" / "ISIC_0000000.jpg"
    picture(image, np.stack([grey()] * 3, axis=-1))
    picture(root / "ISIC2018_Task1_Training_GroundTruth" / "ISIC_0000000_segmentation.png", spot())


def write_ph2(root):
    picture(root / "IMD003" / "IMD003_Dermoscopic_Image" / "IMD003.bmp", np.stack([grey()] * 3, axis=-1))
    picture(root / "IMD003" / "IMD003_lesion" / "IMD003_lesion.bmp", spot())


def write_montgomery(root):
    name = "MCUCXR_0001_0.png"
    picture(root / "CXR_png" / name, grey())
    picture(root / "ManualMask" / "leftMask" / name, spot(left=0))
    picture(root / "ManualMask" / "rightMask" / name, spot(left=5))


def slice_of_mr(path, array, above_mm):
    """A DICOM slice with rows to the left and columns to the back, as axial MR is stored."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = SimpleITK.GetImageFromArray(array[None].astype(np.int16))
    image.SetSpacing((1.5, 1.5, 5.0))
    position = f"-100\\-90\\{above_mm}"
    for tag, value in {"0020|0032": position, "0020|0037": "1\\0\\0\\0\\1\\0", "0008|0060": "MR"}.items():
        image.SetMetaData(tag, value)
    SimpleITK.WriteImage(image, str(path))


def write_chaos(root):
    greys = np.array([0, 63, 126, 189, 252], np.uint8)[labels_of(1, 2, 3, 4)]
    for patient in (1, 10):
        for scan in ("T2SPIR/DICOM_anon", "T1DUAL/DICOM_anon/InPhase", "T1DUAL/DICOM_anon/OutPhase"):
            folder = root / "MR" / str(patient) / scan
            for d in range(3):  # numbered from the head down
                slice_of_mr(folder / f"IMG-0002-{d + 1:05d}.dcm", 100 * d + labels_of(1)[d], 40 - 8 * d)
                picture(
                    root / "MR" / str(patient) / scan[:6] / "Ground" / f"IMG-0002-{d + 1:05d}.png", greys[d]
                )


def write_refuge(root):
    mask = np.where(spot(1, left=2) > 0, 128, 255).astype(np.uint8)
    mask[3, 3] = 0  # the cup
    notes, photo = root / "Annotation-Training400" / "Disc_Cup_Masks", np.stack([grey()] * 3, axis=-1)
    for image, truth in (
        ("REFUGE-Training400/Training400/Glaucoma/g0001.jpg", notes / "Glaucoma" / "g0001.bmp"),
        ("REFUGE-Training400/Training400/Non-Glaucoma/n0001.jpg", notes / "Non-Glaucoma" / "n0001.bmp"),
        ("REFUGE-Validation400/V0001.jpg", root / "REFUGE-Validation400-GT" / "Disc_Cup_Masks" / "V0001.bmp"),
        ("Test400/T0001.jpg", root / "REFUGE-Test-GT" / "Disc_Cup_Masks" / "N" / "T0001.bmp"),
    ):
        picture(root / image, photo)
        picture(truth, mask)


def write_jsrt(root):
    (root / "All247images").mkdir()
    pixels = np.full((2048, 2048), 1000, ">u2")
    pixels[0, 0] = 3000
    for name, fold in (("JPCLN001", 1), ("JPCNN002", 2)):
        pixels.tofile(root / "All247images" / f"{name}.IMG")
        for left, structure in enumerate(("left lung", "right lung", "heart", "left clavicle")):
            mask = np.zeros((1024, 1024), np.uint8)
            mask[:8, left] = 255
            picture(root / "scratch" / f"fold{fold}" / "masks" / structure / f"{name}.gif", mask)


def write_autolaparo(root):
    for sequence in ("001", "002"):
        for frame in (1, 2):
            name = f"{sequence}_{frame}"
            picture(root / "imgs" / f"{name}.jpg", np.stack([grey()] * 3, axis=-1))
            mask = spot(20, left=0) + spot(180, left=5)
            picture(root / "masks" / f"{name}.png", np.stack([mask] * 3, axis=-1))


@dataclass(frozen=True)
class Wanted:
    write: object
    cases: tuple
    classes: int
    values: set  # of the first case
    shape: tuple
    test: tuple = ()
    settings: tuple = ()


WANTED = {
    "synapse": Wanted(write_synapse, ("0001", "0002"), 13, {1, 13}, SHAPE),
    "synapse-transunet": Wanted(write_transunet, ("case0005", "case0008"), 8, {1, 8}, SHAPE, ("case0008",)),
    "promise12": Wanted(write_promise12, ("Case00", "Case01"), 1, {1}, SHAPE),
    "acdc": Wanted(
        write_acdc,
        ("patient001_frame01", "patient001_frame12", "patient101_frame01", "patient101_frame12"),
        3,
        {1, 2, 3},
        SHAPE,
        ("patient101_frame01", "patient101_frame12"),
    ),
    "amos22": Wanted(write_amos22, ("amos_0001", "amos_0008"), 15, {1, 15}, SHAPE, ("amos_0008",)),
    "msd": Wanted(write_msd, ("hippocampus_001", "hippocampus_003"), 2, {1, 2}, SHAPE),
    "camus": Wanted(write_camus, ("patient0001_2CH_ED", "patient0001_4CH_ES"), 3, {1, 2, 3}, (1, 8, 8)),
    "busi": Wanted(write_busi, ("benign-001", "malignant-001"), 1, {1}, (1, 8, 8)),
    "isic2018": Wanted(write_isic2018, ("ISIC_0000000",), 1, {1}, (1, 8, 8)),
    "ph2": Wanted(write_ph2, ("IMD003",), 1, {1}, (1, 8, 8)),
    "montgomery": Wanted(write_montgomery, ("MCUCXR_0001_0",), 2, {1, 2}, (1, 8, 8)),
    "chaos": Wanted(write_chaos, ("01", "10"), 4, {1, 2, 3, 4}, SHAPE),
    "refuge": Wanted(write_refuge, ("T0001", "V0001", "g0001", "n0001"), 2, {1, 2}, (1, 8, 8), ("T0001",)),
    "jsrt": Wanted(write_jsrt, ("JPCLN001", "JPCNN002"), 3, {1, 2, 3}, (1, 1024, 1024)),
    "autolaparo": Wanted(
        write_autolaparo, ("001", "002"), 1, {1}, (2, 8, 8), (), (("sequence_pattern", "^[0-9]+"),)
    ),
}
EVERY = pytest.mark.parametrize(("name", "wanted"), WANTED.items(), ids=WANTED)


@pytest.fixture
def opened(tmp_path):
    def of(name, wanted, **settings):
        wanted.write(tmp_path)
        return DATASETS.load(name)(root=tmp_path, **dict(wanted.settings), **settings)

    return of


@EVERY
def test_the_published_files_are_understood(opened, name, wanted):
    dataset = opened(name, wanted, partial=True)
    assert tuple(dataset.cases()) == wanted.cases
    assert len(dataset.classes) == wanted.classes
    assert tuple(dataset.held_out()) == wanted.test
    volume, labels = dataset.load(wanted.cases[0])
    assert volume.name == wanted.cases[0]
    assert labels.classes == dataset.classes
    assert set(np.unique(labels.labels)) - {0} == wanted.values
    assert volume.grid.same_space(labels.grid)
    assert sorted(volume.grid.shape) == sorted(wanted.shape)
    assert dataset.licence
    assert dataset.obtain


@EVERY
def test_a_part_of_a_dataset_is_refused_unless_asked_for(opened, name, wanted):
    with pytest.raises(DataRefused, match=r"cases are here; .* set partial = true.*To obtain it: "):
        opened(name, wanted)


@EVERY
def test_an_empty_folder_says_what_should_be_there_and_how_to_get_it(tmp_path, name, wanted):
    with pytest.raises(DataRefused, match="To obtain it: "):
        DATASETS.load(name)(root=tmp_path, **dict(wanted.settings))


@EVERY
def test_a_folder_that_is_not_there_is_named(tmp_path, name, wanted):
    with pytest.raises(UnreadableFile, match=r"nowhere: there is no such folder.*To obtain it: "):
        DATASETS.load(name)(root=tmp_path / "nowhere", **dict(wanted.settings))


def test_every_published_dataset_is_tested_here():
    assert set(WANTED) == set(DATASETS) - {"synthetic", "any-folder"}


def test_two_phases_of_a_heart_are_one_patient(opened):
    dataset = opened("acdc", WANTED["acdc"], partial=True)
    assert dataset.patient("patient001_frame01") == dataset.patient("patient001_frame12") == "patient001"


def test_four_views_of_a_heart_are_one_patient(opened):
    dataset = opened("camus", WANTED["camus"], partial=True)
    assert dataset.patient("patient0001_4CH_ES") == "patient0001"


def test_a_missing_label_file_is_named(opened, tmp_path):
    write_synapse(tmp_path)
    (tmp_path / "label" / "label0002.nii.gz").unlink()
    with pytest.raises(DataRefused, match="no labels beside 0002"):
        DATASETS.load("synapse")(root=tmp_path)


def test_labels_that_the_dataset_does_not_have_are_refused(opened, tmp_path):
    dataset = opened("promise12", WANTED["promise12"], partial=True)
    metaimage(tmp_path / "TrainingData_Part1" / "Case00_segmentation.mhd", labels_of(1, 7))
    with pytest.raises(DataRefused, match=r"Case00: its labels hold \[7\], which PROMISE12 does not have"):
        dataset.load("Case00")


def test_slices_of_transunet_come_back_as_the_volume_they_were_cut_from(opened):
    dataset = opened("synapse-transunet", WANTED["synapse-transunet"], partial=True)
    volume, labels = dataset.load("case0005")
    assert (labels.labels == labels_of(1, 8)).all()
    assert np.allclose(volume.voxels, labels_of(1, 8) / 8.0)
    assert not volume.grid.in_mm


def test_amos_keeps_ct_and_mr_apart(opened):
    dataset = opened("amos22", WANTED["amos22"], partial=True, modality="mr")
    assert dataset.cases() == ("amos_0507",)
    with pytest.raises(UsageError, match="no modality 'pet'; use ct or mr"):
        opened("amos22", WANTED["amos22"], modality="pet")


def test_several_lesions_of_one_image_are_put_together(opened):
    _, labels = opened("busi", WANTED["busi"], partial=True).load("benign-001")
    assert labels.labels.sum() == 2 * 9


def test_lungs_are_left_and_right(opened):
    _, labels = opened("montgomery", WANTED["montgomery"], partial=True).load("MCUCXR_0001_0")
    assert (labels.labels == spot(1, left=0) + spot(2, left=5)).all()


def test_masks_of_mr_lie_on_the_slices_they_are_named_after(opened, tmp_path):
    volume, labels = opened("chaos", WANTED["chaos"], partial=True).load("10")
    assert volume.grid.spacing == (8.0, 1.5, 1.5)  # of positions, not the thickness of 5 mm
    assert [float(page.min()) for page in volume.voxels] == [200.0, 100.0, 0.0]  # from the feet up
    assert labels.labels[1].any()
    assert not labels.labels[[0, 2]].any()
    assert (labels.labels[1][volume.voxels[1] == 101] == 1).all()
    assert DATASETS.load("chaos")(root=tmp_path, sequence="t1-out", partial=True).cases() == ("01", "10")
    with pytest.raises(UsageError, match="no sequence 't1'; use t2, t1-in, t1-out"):
        DATASETS.load("chaos")(root=tmp_path, sequence="t1")


def test_a_missing_mask_of_a_slice_is_told(opened, tmp_path):
    dataset = opened("chaos", WANTED["chaos"], partial=True)
    (tmp_path / "MR" / "1" / "T2SPIR" / "Ground" / "IMG-0002-00002.png").unlink()
    with pytest.raises(DataRefused, match=r"patient 01: 3 slices in .* and 2 masks in"):
        dataset.load("01")


def test_the_cup_lies_in_the_disc(opened):
    _, labels = opened("refuge", WANTED["refuge"], partial=True).load("g0001")
    assert labels.labels[0, 2:5, 2:5].tolist() == [[1, 1, 1], [1, 2, 1], [1, 1, 1]]
    assert labels.labels.astype(bool).sum() == 9


def test_raw_x_rays_are_read_at_the_size_of_their_masks(opened, tmp_path):
    dataset = opened("jsrt", WANTED["jsrt"], partial=True)
    volume, labels = dataset.load("JPCLN001")
    assert volume.voxels[0, 0, :2].tolist() == [1500.0, 1000.0]
    assert labels.labels[0, 0, :5].tolist() == [1, 2, 3, 0, 0]
    image = tmp_path / "All247images" / "JPCLN001.IMG"
    image.write_bytes(image.read_bytes()[:-2])
    with pytest.raises(DataRefused, match="4194303 numbers of 16 bits, an image of JSRT has 2048 x 2048"):
        dataset.load("JPCLN001")


def test_laparoscopy_is_video_with_all_instruments_as_one_class_or_each_part(opened):
    one = opened("autolaparo", WANTED["autolaparo"], partial=True)
    volume, labels = one.load("001")
    assert volume.axis == "t"
    assert labels.labels.sum() == 2 * 9  # the uterus is background
    parts = opened("autolaparo", WANTED["autolaparo"], partial=True, instruments_only=False)
    assert parts.classes[1] == "instrument 1 manipulator"
    assert set(np.unique(parts.load("001")[1].labels)) == {0, 1, 9}


def test_laparoscopy_needs_to_be_told_how_frames_are_named(tmp_path):
    with pytest.raises(UsageError, match="autolaparo needs sequence_pattern"):
        DATASETS.load("autolaparo")(root=tmp_path)


def test_any_folder_is_a_dataset_with_the_names_you_give(tmp_path):
    for case in ("a_1", "a_2"):
        nifti(tmp_path / "images" / f"{case}.nii.gz", image_of(labels_of(1)))
        nifti(tmp_path / "labels" / f"{case}.nii.gz", labels_of(1))
    dataset = DATASETS.load("any-folder")(root=Path(tmp_path), names={"1": "cyst"}, patient_pattern="^[a-z]+")
    assert dataset.cases() == ("a_1", "a_2")
    assert dataset.classes == {1: "cyst"}
    assert dataset.patient("a_2") == "a"
    assert dataset.load("a_1")[1].classes == {1: "cyst"}
