"""Small valid files of every format that is read, and some hostile ones, written by code."""

import json
import os
import pickle
import shutil
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name everybody knows it by
import torch
from PIL import Image
from safetensors.torch import save_file

from unprompted import Segmenter, load_backbone
from unprompted.backbones.tiny import TinyShape, random_model
from unprompted.geometry import Grid
from unprompted.images import LabelMap, Volume
from unprompted.io.dicom import Dicom
from unprompted.io.dicom.rtstruct_writing import write_rtstruct
from unprompted.io.dicom.seg_writing import write_seg
from unprompted.io.nifti import Nifti, write_volume
from unprompted.io.video import write_film
from unprompted.refinement.settings import Refinement

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from dicoms import write_clip, write_enhanced, write_series  # those the tests use

SHAPE = (3, 12, 14)
MARK = "code-was-run"  # what the hostile pickles would create in the working folder


@dataclass(frozen=True)
class Seed:
    """A valid input.

    Attributes:
        target: what reads it: "reader", "checkpoint", "model", "task" or "folder".
        path: the file, or the folder of which one file at a time is spoiled.
    """

    target: str
    path: Path


class _Shell:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {MARK}",)


def seeds(root: Path) -> list[Seed]:
    """Write all seeds under a folder."""
    root.mkdir(parents=True)
    found = [Seed("reader", path) for path in sorted(_images(root / "images"))]
    found += [Seed("reader", path) for path in _dicoms(root / "dicoms")]
    found += [Seed("folder", path) for path in _dicom_folders(root)]
    found += [Seed("checkpoint", path) for path in sorted(_checkpoints(root / "checkpoints"))]
    model, task = _model_and_task(root)
    return [*found, Seed("model", model), Seed("task", task), *(Seed("folder", f) for f in _folders(root))]


def _images(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    source = np.random.default_rng(0)
    labels = source.integers(0, 3, SHAPE).astype(np.uint8)
    voxels = source.integers(0, 200, SHAPE).astype(np.int16)
    grid = Grid.with_spacing(SHAPE, (3.0, 1.0, 1.0))
    write_volume(Volume(voxels.astype(np.float32), grid), folder / "float.nii.gz")
    write_volume(Volume(voxels.astype(np.float32), grid), folder / "float.nii")
    named = LabelMap(labels, grid, {1: "liver", 2: "spleen"})
    Nifti().write_labels(named, folder / "labels.nii.gz", folder / "float.nii.gz")
    Nifti().write_labels(named, folder / "labels.nii", folder / "float.nii")
    nib.save(nib.Nifti2Image(voxels, np.eye(4)), folder / "two.nii")
    colours = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(colours, np.eye(4)), folder / "colours.nii")
    image = sitk.GetImageFromArray(voxels)
    for name in ("a.nrrd", "a.seg.nrrd", "a.mha", "a.mhd"):
        sitk.WriteImage(image, str(folder / name), useCompression=name != "a.mhd")
    sitk.WriteImage(image, str(folder / "plain.nrrd"))
    (folder / "endless.mhd").write_text(
        "NDims = 3\nDimSize = 8 8 8\nElementType = MET_UCHAR\nElementDataFile = /dev/zero\n"
    )
    grey, rgb = Image.fromarray(labels[0]), Image.fromarray(source.integers(0, 255, (12, 14, 3), np.uint8))
    for name in ("grey.png", "grey.bmp", "grey.jpg", "grey.tif"):
        grey.save(folder / name)
    for name in ("rgb.png", "rgb.jpeg", "rgb.tiff"):
        rgb.save(folder / name)
    Image.fromarray(voxels[0].astype(np.uint16)).save(folder / "deep.png")
    rgb.quantize(8).save(folder / "palette.png")
    grey.save(folder / "pages.tif", save_all=True, append_images=[grey, grey], compression="tiff_lzw")
    frames = source.integers(0, 255, (4, 32, 48, 3), np.uint8)
    for name in ("a.mp4", "a.avi", "a.mov", "a.mkv"):
        write_film(folder / name, iter(frames), Fraction(10))
    arrays = {"image": voxels, "label": labels, "affine": np.eye(4)}
    np.savez(folder / "plain.npz", **arrays)
    np.savez_compressed(folder / "packed.npz", image=voxels, label=labels, spacing=np.ones(3))
    np.savez(folder / "hostile.npz", image=np.array([_Shell()], object), label=labels)
    with h5py.File(folder / "plain.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    with h5py.File(folder / "packed.h5", "w") as file:
        file.create_dataset("image", data=voxels, compression="gzip")
        file.create_dataset("label", data=labels, compression="gzip")
    yield from (path for path in folder.iterdir() if path.suffix != ".raw")


def _dicoms(folder: Path) -> Iterator[Path]:
    """One file of each kind; a slice stands for its series, which is packed as well."""
    series = write_series(folder / "series", shape=SHAPE)
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:, 3:9, 3:9], labels[2, 5:7, 5:7] = 1, 2
    named = LabelMap(labels, Dicom().read(series.folder).grid, {1: "liver", 2: "spleen"})
    for kind in ("BINARY", "LABELMAP"):
        write_seg(named, folder / f"{kind.lower()}.seg.dcm", series.folder, kind)
    write_seg(named, folder / "fractional.seg.dcm", series.folder, "FRACTIONAL", np.ones(SHAPE, np.float32))
    write_rtstruct(named, folder / "rtstruct.dcm", series.folder)
    write_enhanced(folder / "enhanced", shape=SHAPE)
    write_clip(folder / "clip.dcm", frames=3)
    write_clip(folder / "grey.dcm", frames=3, colour="MONOCHROME2")
    with zipfile.ZipFile(folder / "series.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in series.files:
            archive.write(file, f"study/series/{file.name}")
    yield from (series.files[0], folder / "enhanced" / "enhanced.dcm")
    yield from sorted(path for path in folder.iterdir() if path.is_file())


def _dicom_folders(root: Path) -> Iterator[Path]:
    """A series with its labels, as SEG and as RTSTRUCT."""
    for name in ("binary.seg.dcm", "labelmap.seg.dcm", "rtstruct.dcm"):
        place = root / name.replace(".dcm", ".study")
        shutil.copytree(root / "dicoms" / "series", place / "series")
        shutil.copy(root / "dicoms" / name, place)
        yield place


def _checkpoints(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    state = {name: torch.zeros(shape) for name, shape in _ORIGINAL.items()}
    torch.save({"model": state}, folder / "original.pt")
    torch.save({"model": state}, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    save_file(state, folder / "original.safetensors")
    torch.save({"model": state, "more": _Shell()}, folder / "hostile.pt")
    (folder / "pickle.pt").write_bytes(pickle.dumps({"model": _Shell()}))
    with zipfile.ZipFile(folder / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("archive/data/0", "w", force_zip64=True) as member:
            for _ in range(256):
                member.write(bytes(2**20))
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    yield from folder.iterdir()


def _model_and_task(root: Path) -> tuple[Path, Path]:
    shape = TinyShape(
        128, widths=(8, 16, 24, 32), blocks=(1, 1, 1, 1), channels=64, memory_layers=1, decoder_mlp=64
    )
    torch.manual_seed(0)
    random_model(shape).eval().save_pretrained(root / "model")
    grid = Grid.with_spacing(SHAPE, (3.0, 1.0, 1.0))
    labels = np.zeros(SHAPE, np.uint8)
    labels[:, 3:9, 3:9] = 1
    case = Volume(labels * 100.0 + 20, grid, name="a"), LabelMap(labels, grid, {1: "box"})
    backbone = load_backbone(str(root / "model"), device="cpu")
    Segmenter("sam2-mask", backbone, refinement=Refinement(steps=0)).fit([case]).save(root / "task")
    return root / "model", root / "task"


def _folders(root: Path) -> Iterator[Path]:
    """Layouts with a description."""
    contents = {
        "msd": {"labels": {"0": "background", "1": "liver"}, "numTraining": 1},
        "nnunet": {"labels": {"background": 0, "liver": 1, "ignore": 2}, "channel_names": {"0": "CT"}},
    }
    for name, description in contents.items():
        for part in ("imagesTr", "labelsTr"):
            (root / name / part).mkdir(parents=True)
            image = "a_0000.png" if part == "imagesTr" and name == "nnunet" else "a.png"
            Image.fromarray(np.eye(12, dtype=np.uint8)).save(root / name / part / image)
        (root / name / "dataset.json").write_text(json.dumps(description))
        yield root / name
    for part in ("frames", "masks"):
        (root / "video" / part).mkdir(parents=True)
        for number in range(2):
            Image.fromarray(np.eye(12, dtype=np.uint8)).save(root / "video" / part / f"{number}.png")
    (root / "video" / "labels.json").write_text(json.dumps({"1": {"name": "tool", "colour": "#ff0000"}}))
    yield root / "video"


_ORIGINAL = {
    "image_encoder.trunk.patch_embed.proj.weight": (96, 3, 7, 7),
    "image_encoder.trunk.pos_embed": (1, 96, 7, 7),
    **{f"image_encoder.trunk.blocks.{n}.attn.proj.weight": (w, w) for n, w in enumerate((96, 192, 192))},
    "image_encoder.neck.convs.0.conv.weight": (256, 8, 1, 1),
    "sam_mask_decoder.iou_token.weight": (1, 256),
    "sam_mask_decoder.mask_tokens.weight": (4, 256),
    "sam_mask_decoder.iou_prediction_head.layers.0.weight": (256, 256),
    "sam_mask_decoder.transformer.layers.0.cross_attn_token_to_image.q_proj.weight": (128, 256),
    "sam_mask_decoder.transformer.layers.0.mlp.layers.0.weight": (64, 256),
    "sam_prompt_encoder.mask_downscaling.3.weight": (16, 4, 2, 2),
    "memory_encoder.fuser.layers.0.pwconv1.weight": (64, 16),
    "memory_encoder.fuser.layers.0.dwconv.weight": (16, 1, 7, 7),
    "memory_encoder.pix_feat_proj.weight": (256, 8, 1, 1),
    "memory_encoder.mask_downsampler.encoder.12.weight": (256, 8, 1, 1),
    "memory_attention.layers.0.linear1.weight": (64, 8),
    "maskmem_tpos_enc": (7, 1, 1, 64),
    "no_obj_embed_spatial": (1, 64),
}
