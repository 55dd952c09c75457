"""Abdominal CT and MR of the MICCAI 2022 challenge AMOS (arXiv:2206.08023)."""

from pathlib import Path

from unprompted.datasets.base import CaseFiles
from unprompted.datasets.collection import Collection
from unprompted.errors import UsageError

CLASSES = {
    1: "spleen", 2: "right kidney", 3: "left kidney", 4: "gallbladder", 5: "oesophagus", 6: "liver",
    7: "stomach", 8: "aorta", 9: "postcava", 10: "pancreas", 11: "right adrenal gland",
    12: "left adrenal gland", 13: "duodenum", 14: "bladder", 15: "prostate or uterus",
}  # fmt: skip
_FIRST_MR = 500  # case numbers from here on are MR
_CASES = {"ct": 300, "mr": 60}  # of training and validation together


def amos22(root: Path, modality: str = "ct", partial: bool = False) -> Collection:
    """AMOS, 300 CT or 60 MR volumes with labels, 15 organs; the validation cases are the test side.

    Args:
        root: the folder ``amos22``.
        modality: "ct" or "mr".
        partial: take what is there.

    Raises:
        UsageError: there is no such modality.
    """
    if modality not in _CASES:
        raise UsageError(f"amos22 has no modality {modality!r}; use ct or mr")
    files: dict[str, CaseFiles] = {}
    test: list[str] = []
    for side in ("Tr", "Va"):
        for image in sorted((root / f"images{side}").glob("amos_[0-9]*.nii.gz")):
            name = image.name.removesuffix(".nii.gz")
            if (int(name.removeprefix("amos_")) >= _FIRST_MR) == (modality == "mr"):
                files[name] = CaseFiles(name, image, root / f"labels{side}" / image.name)
                test += [name] * (side == "Va")
    return Collection(
        name=f"AMOS22 {modality.upper()}",
        root=root,
        classes=CLASSES,
        licence="Creative Commons, non-commercial; see its Zenodo record",
        obtain="zenodo.org/records/7262581, amos22.zip",
        layout="imagesTr, labelsTr, imagesVa and labelsVa with amos_0001.nii.gz and so on",
        files=files,
        expected=_CASES[modality],
        partial=partial,
        test=tuple(test),
    )
