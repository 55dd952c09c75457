"""Fundus photographs of the MICCAI 2018 challenge REFUGE (Orlando et al. 2020, Medical Image Analysis 59)."""

from pathlib import Path

import numpy as np

from unprompted.datasets.base import CaseFiles
from unprompted.datasets.collection import Collection
from unprompted.images import LabelMap, Volume
from unprompted.io.base import read_image
from unprompted.io.raster import grey_values

_CASES = 1200
_IMAGES = ("Training400/*/[gn]*.jpg", "REFUGE-Validation400/V*.jpg", "Test400/T*.jpg")
_CUP, _DISC = 64, 192  # below the first a mask shows the cup (0), below the second the disc around it (128)


def refuge(root: Path, partial: bool = False) -> Collection:
    """REFUGE, 1200 fundus photographs: 400 to train, 400 to validate, 400 to test, which is the test side.

    Classes do not overlap, so the rim is the disc without its cup. Papers give the Dice of the whole disc,
    which is higher.

    Args:
        root: a folder with the unpacked archives anywhere below it.
        partial: take what is there.
    """
    images = {f.stem: f for pattern in _IMAGES for f in sorted(root.rglob(pattern))}
    masks = {f.stem: f for f in root.rglob("*.bmp") if "Disc_Cup_Masks" in f.parts}
    return Collection(
        name="REFUGE",
        root=root,
        classes={1: "disc rim", 2: "cup"},
        licence="terms of refuge.grand-challenge.org, research only",
        obtain="refuge.grand-challenge.org, after registration: images and ground truth of REFUGE",
        layout="Training400/Glaucoma/g0001.jpg and Training400/Non-Glaucoma/n0001.jpg (400), "
        "REFUGE-Validation400/V0001.jpg (400), Test400/T0001.jpg (400), and below a folder Disc_Cup_Masks of "
        "each archive of annotations a .bmp of the same name",
        files={name: CaseFiles(name, f, masks.get(name)) for name, f in images.items()},
        expected=_CASES,
        partial=partial,
        test=tuple(sorted(name for name in images if name.startswith("T"))),
        read=_read,
    )


def _read(files: CaseFiles) -> tuple[Volume, LabelMap]:
    assert files.labels is not None
    volume, greys = read_image(files.image), grey_values(files.labels)[None]
    labels = np.where(greys < _CUP, 2, np.where(greys < _DISC, 1, 0)).astype(np.uint8)
    return volume, LabelMap(labels, volume.grid)
