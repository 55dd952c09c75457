"""Dermoscopy of the PH2 database (Mendonça et al. 2013)."""

from pathlib import Path

from unprompted.datasets.base import CaseFiles
from unprompted.datasets.collection import Collection, with_mask

_CASES = 200


def ph2(root: Path, partial: bool = False) -> Collection:
    """PH2, 200 dermoscopy images with the lesion outlined.

    Args:
        root: the folder ``PH2 Dataset images``.
        partial: take what is there.
    """
    images = sorted(root.glob("IMD*/IMD*_Dermoscopic_Image/IMD*.bmp"))
    return Collection(
        name="PH2",
        root=root,
        classes={1: "lesion"},
        licence="research and teaching only",
        obtain="www.fc.up.pt/addi/ph2 database.html",
        layout="IMD003/IMD003_Dermoscopic_Image/IMD003.bmp and IMD003/IMD003_lesion/IMD003_lesion.bmp",
        files={
            f.stem: CaseFiles(f.stem, f, f.parents[1] / f"{f.stem}_lesion" / f"{f.stem}_lesion.bmp")
            for f in images
        },
        expected=_CASES,
        partial=partial,
        read=with_mask,
    )
