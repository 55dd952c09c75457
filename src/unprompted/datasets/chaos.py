"""Abdominal MR of the ISBI 2019 challenge CHAOS (arXiv:2001.06535)."""

from functools import partial as bound
from pathlib import Path

import numpy as np

from unprompted.datasets.base import CaseFiles
from unprompted.datasets.collection import Collection
from unprompted.errors import DataRefused, UsageError
from unprompted.images import LabelMap, Volume
from unprompted.io.itk import read_slices
from unprompted.io.raster import grey_values

CLASSES = {1: "liver", 2: "right kidney", 3: "left kidney", 4: "spleen"}
_GREYS = {1: (56, 70), 2: (111, 135), 3: (176, 200), 4: (241, 255)}  # 63, 126, 189 and 252, with a margin
_CASES = 20  # the 20 test patients have no labels
_SEQUENCES = {
    "t2": ("T2SPIR", "DICOM_anon"),
    "t1-in": ("T1DUAL", "DICOM_anon/InPhase"),
    "t1-out": ("T1DUAL", "DICOM_anon/OutPhase"),
}


def chaos(root: Path, sequence: str = "t2", partial: bool = False) -> Collection:
    """CHAOS, abdominal MR of 20 patients, four organs; the CT, labelled for the liver alone, is not read.

    Args:
        root: the folder ``Train_Sets``.
        sequence: "t2" (T2-SPIR), "t1-in" or "t1-out" (T1-DUAL in and out of phase, one mask for both).
        partial: take what is there.

    Raises:
        UsageError: there is no such sequence.
    """
    if sequence not in _SEQUENCES:
        raise UsageError(f"chaos has no sequence {sequence!r}; use {', '.join(_SEQUENCES)}")
    scan, images = _SEQUENCES[sequence]
    folders = sorted((root / "MR").glob(f"[0-9]*/{scan}"), key=lambda f: int(f.parent.name))
    names = {f"{int(folder.parent.name):02d}": folder for folder in folders}
    return Collection(
        name=f"CHAOS MR {sequence}",
        root=root,
        classes=CLASSES,
        licence="CC BY-NC-SA 4.0",
        obtain="zenodo.org/records/3431873, CHAOS_Train_Sets.zip",
        layout=f"MR/1/{scan}/{images}/*.dcm with MR/1/{scan}/Ground/*.png and so on, 20 patients up to MR/39",
        files={name: CaseFiles(name, f / images, f / "Ground") for name, f in names.items()},
        expected=_CASES,
        partial=partial,
        read=bound(_read, name=f"CHAOS {sequence}"),
    )


def _read(files: CaseFiles, name: str) -> tuple[Volume, LabelMap]:
    """Slices and masks in the order of their names, in which both were written."""
    assert files.labels is not None
    slices, masks = sorted(files.image.glob("*.dcm")), sorted(files.labels.glob("*.png"))
    if not slices or len(slices) != len(masks):
        raise DataRefused(
            f"{name}, patient {files.name}: {len(slices)} slices in {files.image} and {len(masks)} masks in "
            f"{files.labels}; there should be one mask a slice, so unpack the archive again"
        )
    volume = read_slices(slices)
    greys = np.stack([grey_values(mask) for mask in masks])
    if greys.shape != volume.grid.shape:
        raise DataRefused(
            f"{name}, patient {files.name}: slices are {volume.grid.shape[1:]}, masks {greys.shape[1:]}"
        )
    labels = np.zeros(greys.shape, np.uint8)
    for value, (low, high) in _GREYS.items():
        labels[(greys >= low) & (greys <= high)] = value
    unknown = sorted({int(grey) for grey in np.unique(greys[labels == 0])} - {0})
    if unknown:
        raise DataRefused(f"{name}, patient {files.name}: masks hold grey {unknown}, which names no organ")
    return volume.sliced_along("S"), LabelMap(labels, volume.grid).sliced_along("S")
