"""Breast ultrasound images of Al-Dhabyani et al. 2020 (Data in Brief 28:104863)."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np

from unprompted.datasets.base import CaseFiles
from unprompted.datasets.collection import Collection, inside
from unprompted.images import LabelMap, Volume
from unprompted.io.base import read_image, read_labels

_CASES = 647  # 437 benign, 210 malignant; the 133 normal ones show no lesion
_MASK = "_mask.png"


def busi(root: Path, partial: bool = False) -> Collection:
    """BUSI, 647 breast ultrasound images with a lesion; several masks of one image are put together.

    Args:
        root: the folder ``Dataset_BUSI_with_GT``.
        partial: take what is there.
    """
    masks = sorted(f for kind in ("benign", "malignant") for f in (root / kind).glob(f"*{_MASK}"))
    images = {_name(f): f.with_name(f.name.replace(_MASK, ".png")) for f in masks}
    return Collection(
        name="BUSI",
        root=root,
        classes={1: "lesion"},
        licence="see its page; a mirror states CC BY 4.0",
        obtain="scholar.cu.edu.eg/?q=afahmy/pages/dataset, Dataset_BUSI_with_GT.zip",
        layout='"benign/benign (1).png" with "benign/benign (1)_mask.png" (437), malignant/ likewise (210)',
        files={name: CaseFiles(name, f, f.with_name(f.stem + _MASK)) for name, f in images.items()},
        expected=_CASES,
        partial=partial,
        read=_read,
    )


def _name(mask: Path) -> str:
    kind, number = re.findall(r"[a-z]+|[0-9]+", mask.name)[:2]
    return f"{kind}-{int(number):03d}"


def _read(files: CaseFiles) -> tuple[Volume, LabelMap]:
    """Lesions beyond the first have files of their own: ``_mask_1.png`` and so on."""
    masks = [f for f in files.image.parent.iterdir() if f.name.startswith(f"{files.image.stem}_mask")]
    labels = [inside(read_labels(f)) for f in sorted(masks)]
    union = np.any([each.labels for each in labels], axis=0).astype(np.uint8)
    return read_image(files.image), replace(labels[0], labels=union)
