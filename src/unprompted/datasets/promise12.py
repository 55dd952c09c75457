"""Prostate MR of the MICCAI 2012 challenge PROMISE12."""

from pathlib import Path

from unprompted.datasets.base import CaseFiles
from unprompted.datasets.collection import Collection

_CASES = 50


def promise12(root: Path, partial: bool = False) -> Collection:
    """PROMISE12, 50 transversal T2-weighted MR volumes, the prostate.

    Args:
        root: a folder with the training files anywhere below it, as its three parts are unpacked.
        partial: take what is there.
    """
    ending = "_segmentation.mhd"
    labels = {f.name.removesuffix(ending): f for f in sorted(root.rglob(f"Case[0-9]*{ending}"))}
    return Collection(
        name="PROMISE12",
        root=root,
        classes={1: "prostate"},
        licence="terms of promise12.grand-challenge.org",
        obtain="promise12.grand-challenge.org, the three parts of the training data",
        layout="Case00.mhd, Case00.raw, Case00_segmentation.mhd, Case00_segmentation.raw, up to Case49",
        files={name: CaseFiles(name, file.with_name(f"{name}.mhd"), file) for name, file in labels.items()},
        expected=_CASES,
        partial=partial,
    )
