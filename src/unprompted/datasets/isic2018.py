"""Dermoscopy of ISIC 2018 task 1, lesion segmentation (arXiv:1902.03368)."""

from pathlib import Path

from unprompted.datasets.base import CaseFiles
from unprompted.datasets.collection import Collection, with_mask

_CASES = 2594
_IMAGES, _MASKS = "ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth"


def isic2018(root: Path, partial: bool = False) -> Collection:
    """ISIC 2018 task 1, 2594 dermoscopy images with the lesion outlined.

    Args:
        root: the folder with both unpacked archives.
        partial: take what is there.
    """
    images = sorted((root / _IMAGES).glob("ISIC_[0-9]*.jpg"))
    return Collection(
        name="ISIC 2018",
        root=root,
        classes={1: "lesion"},
        licence="CC BY-NC 4.0",
        obtain="challenge.isic-archive.com/data, 2018, task 1, training input and ground truth",
        layout=f"{_IMAGES}/ISIC_0000000.jpg and {_MASKS}/ISIC_0000000_segmentation.png",
        files={f.stem: CaseFiles(f.stem, f, root / _MASKS / f"{f.stem}_segmentation.png") for f in images},
        expected=_CASES,
        partial=partial,
        read=with_mask,
    )
