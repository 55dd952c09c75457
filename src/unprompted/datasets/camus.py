"""Echocardiography of the CAMUS study (Leclerc et al. 2019, IEEE TMI)."""

from pathlib import Path

from unprompted.datasets.base import CaseFiles
from unprompted.datasets.collection import Collection

_CASES = 2000  # 500 patients, two chamber views, two phases


def camus(root: Path, partial: bool = False) -> Collection:
    """CAMUS, 500 patients, 2- and 4-chamber views at end-diastole and end-systole, one patient a side.

    Args:
        root: the folder ``database_nifti``.
        partial: take what is there.
    """
    ending = "_gt.nii.gz"
    masks = sorted(root.glob(f"patient[0-9]*/patient*_[24]CH_E[DS]{ending}"))
    files = {f.name.removesuffix(ending): f for f in masks}
    return Collection(
        name="CAMUS",
        root=root,
        classes={1: "left ventricle", 2: "myocardium", 3: "left atrium"},
        licence="terms of humanheart-project.creatis.insa-lyon.fr, research only",
        obtain="www.creatis.insa-lyon.fr/Challenge/camus, CAMUS_public.zip",
        layout="patient0001/patient0001_2CH_ED.nii.gz with patient0001_2CH_ED_gt.nii.gz, 4 a patient",
        files={name: CaseFiles(name, f.with_name(f"{name}.nii.gz"), f) for name, f in files.items()},
        expected=_CASES,
        partial=partial,
        patient_of=_patient,
    )


def _patient(case: str) -> str:
    return case.split("_")[0]
