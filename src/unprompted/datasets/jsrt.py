"""Chest X-rays of JSRT (Shiraishi et al. 2000) with the outlines of SCR (van Ginneken et al. 2006)."""

from pathlib import Path

import numpy as np

from unprompted.datasets.base import CaseFiles
from unprompted.datasets.collection import Collection
from unprompted.errors import DataRefused
from unprompted.geometry import Grid
from unprompted.images import LabelMap, Volume
from unprompted.io.raster import grey_values

_CASES = 247
_SIDE = 2048  # of an image; masks have half of it
_STRUCTURES = {1: "left lung", 2: "right lung", 3: "heart"}
_FIRST = _STRUCTURES[1]


def jsrt(root: Path, partial: bool = False) -> Collection:
    """JSRT, 247 frontal chest X-rays with lungs and heart of the first observer; clavicles are left out.

    Images are averaged over two by two pixels, to the size of the masks.

    Args:
        root: a folder with the images and the unpacked outlines anywhere below it.
        partial: take what is there.
    """
    images = {f.stem: f for f in sorted(root.rglob("JPC[LN]N[0-9]*.IMG"))}
    masks = {f.stem: f for f in root.rglob("*.gif") if f.parts[-3:-1] == ("masks", _FIRST)}
    return Collection(
        name="JSRT",
        root=root,
        classes=_STRUCTURES,
        licence="images: terms of db.jsrt.or.jp; outlines: research and education, not to be passed on",
        obtain="db.jsrt.or.jp, All247images.zip, and www.isi.uu.nl/Research/Databases/SCR, scratch.zip",
        layout="All247images/JPCLN001.IMG (154) and JPCNN001.IMG (93), and scratch/fold1/masks and "
        "fold2/masks with folders heart, left lung and right lung that hold JPCLN001.gif and so on",
        files={name: CaseFiles(name, f, masks.get(name)) for name, f in images.items()},
        expected=_CASES,
        partial=partial,
        read=_read,
    )


def _read(files: CaseFiles) -> tuple[Volume, LabelMap]:
    """Raw big-endian 16-bit numbers without a header; each structure has a mask of its own."""
    assert files.labels is not None
    stored = np.fromfile(files.image, dtype=">u2")
    if stored.size != _SIDE**2:
        raise DataRefused(
            f"{files.image}: {stored.size} numbers of 16 bits, an image of JSRT has {_SIDE} x {_SIDE}; copy "
            "it again from the archive"
        )
    half = _SIDE // 2
    voxels = stored.astype(np.float32).reshape(1, half, 2, half, 2).mean(axis=(2, 4))
    labels = np.zeros((half, half), np.uint8)
    for value, structure in _STRUCTURES.items():
        mask = grey_values(files.labels.parents[1] / structure / files.labels.name)
        if mask.shape != labels.shape:
            raise DataRefused(
                f"{files.name}: the mask of the {structure} is {mask.shape}, not {labels.shape}"
            )
        labels[mask > 0] = value
    grid = Grid.without_mm((1, half, half))
    return Volume(voxels, grid, name=files.name), LabelMap(labels[None], grid)
