"""Any one of the ten tasks of the Medical Segmentation Decathlon (arXiv:1902.09063)."""

import json
from pathlib import Path

from unprompted.datasets.base import CaseFiles
from unprompted.datasets.collection import Collection
from unprompted.datasets.description import DESCRIPTION, read_description
from unprompted.datasets.pairing import image_files
from unprompted.errors import DataRefused
from unprompted.io.base import case_name


def msd(root: Path, partial: bool = False) -> Collection:
    """A task of the Medical Segmentation Decathlon; ``dataset.json`` says classes and number of cases.

    Args:
        root: the folder of a task, such as ``Task04_Hippocampus``. Tasks of several channels (01, 05)
            have 4D images, which are refused.
        partial: take what is there.

    Raises:
        DataRefused: ``dataset.json`` is missing or does not name the classes.
    """
    how = "medicaldecathlon.com, one archive a task"
    description = read_description(root) if root.is_dir() else None
    if root.is_dir() and (description is None or description.classes is None):
        raise DataRefused(f"{root}: no {DESCRIPTION} that names the classes. To obtain it: {how}")
    classes = description.classes if description and description.classes else {}
    images = image_files(root / "imagesTr") if (root / "imagesTr").is_dir() else []
    return Collection(
        name=f"MSD {root.name}",
        root=root,
        classes=classes,
        licence="CC BY-SA 4.0",
        obtain=how,
        layout="imagesTr, labelsTr and dataset.json",
        files={case_name(f): CaseFiles(case_name(f), f, root / "labelsTr" / f.name) for f in images},
        expected=_promised(root / DESCRIPTION, len(images)),
        partial=partial,
    )


def _promised(path: Path, found: int) -> int:
    if not path.is_file():
        return found
    entries = json.loads(path.read_text(encoding="utf-8"))
    return int(entries.get("numTraining", found))
