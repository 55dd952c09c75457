"""Cardiac cine MR of the MICCAI 2017 challenge ACDC."""

import re
from pathlib import Path

from unprompted.datasets.base import CaseFiles
from unprompted.datasets.collection import Collection

_CASES = 300  # 150 patients in two phases


def acdc(root: Path, partial: bool = False) -> Collection:
    """ACDC, 150 patients at end-diastole and end-systole; both phases stay on one side of a split.

    Args:
        root: the folder ``database`` with ``training`` and ``testing``.
        partial: take what is there.
    """
    labels = sorted(root.glob("t*ing/patient[0-9]*/patient*_frame[0-9]*_gt.nii.gz"))
    files = {f.name.removesuffix("_gt.nii.gz"): f for f in labels}
    return Collection(
        name="ACDC",
        root=root,
        classes={1: "right ventricle", 2: "myocardium", 3: "left ventricle"},
        licence="CC BY-NC-SA 4.0",
        obtain="www.creatis.insa-lyon.fr/Challenge/acdc",
        layout="training/patient001/patient001_frame01.nii.gz with patient001_frame01_gt.nii.gz "
        "(100 patients) and testing/patient101/… (50 patients), two frames each",
        files={name: CaseFiles(name, f.with_name(f"{name}.nii.gz"), f) for name, f in files.items()},
        expected=_CASES,
        partial=partial,
        patient_of=_patient,
        test=tuple(name for name, f in files.items() if f.parents[1].name == "testing"),
    )


def _patient(case: str) -> str:
    return re.sub("_frame[0-9]+$", "", case)
