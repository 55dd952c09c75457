"""Abdominal CT of the MICCAI 2015 challenge "Beyond the Cranial Vault" (BTCV), also called Synapse."""

from pathlib import Path

from unprompted.datasets.base import CaseFiles
from unprompted.datasets.collection import Collection

CLASSES = {
    1: "spleen", 2: "right kidney", 3: "left kidney", 4: "gallbladder", 5: "oesophagus", 6: "liver",
    7: "stomach", 8: "aorta", 9: "inferior vena cava", 10: "portal and splenic vein", 11: "pancreas",
    12: "right adrenal gland", 13: "left adrenal gland",
}  # fmt: skip
_CASES = 30


def synapse(root: Path, partial: bool = False) -> Collection:
    """BTCV / Synapse abdominal CT as published, 30 labelled volumes, 13 organs.

    Args:
        root: the folder ``RawData/Training``.
        partial: take what is there.
    """
    images = {file.name[3:7]: file for file in sorted((root / "img").glob("img[0-9]*.nii.gz"))}
    return Collection(
        name="BTCV",
        root=root,
        classes=CLASSES,
        licence="terms of Synapse project syn3193805, registration needed",
        obtain="sign up at synapse.org, project syn3193805, Abdomen, RawData.zip",
        layout="img/img0001.nii.gz and label/label0001.nii.gz, 30 of each",
        files={
            number: CaseFiles(number, image, root / "label" / f"label{number}.nii.gz")
            for number, image in images.items()
        },
        expected=_CASES,
        partial=partial,
    )
