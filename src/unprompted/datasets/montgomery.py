"""Chest X-rays of Montgomery County (Jaeger et al. 2014)."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from unprompted.datasets.base import CaseFiles
from unprompted.datasets.collection import Collection, inside
from unprompted.images import LabelMap, Volume
from unprompted.io.base import read_image, read_labels

_CASES = 138
_LEFT, _RIGHT = "leftMask", "rightMask"


def montgomery(root: Path, partial: bool = False) -> Collection:
    """Montgomery County chest X-rays, 138 frontal images, both lungs.

    Args:
        root: the folder ``MontgomerySet``.
        partial: take what is there.
    """
    masks = root / "ManualMask"
    images = sorted((root / "CXR_png").glob("MCUCXR_*.png"))
    return Collection(
        name="Montgomery",
        root=root,
        classes={1: "left lung", 2: "right lung"},
        licence="not to be passed on; see its page at the U.S. National Library of Medicine",
        obtain="openi.nlm.nih.gov, NLM-MontgomeryCXRSet.zip",
        layout="CXR_png/MCUCXR_0001_0.png, ManualMask/leftMask and ManualMask/rightMask of the same name",
        files={f.stem: CaseFiles(f.stem, f, masks / _LEFT / f.name) for f in images},
        expected=_CASES,
        partial=partial,
        read=_read,
    )


def _read(files: CaseFiles) -> tuple[Volume, LabelMap]:
    assert files.labels is not None
    left = inside(read_labels(files.labels))
    right = inside(read_labels(files.labels.parents[1] / _RIGHT / files.labels.name))
    both = np.where(left.labels > 0, 1, 2 * right.labels).astype(np.uint8)
    return read_image(files.image), replace(left, labels=both)
