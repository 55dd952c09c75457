"""The ``dataset.json`` of nnU-Net and of the Medical Segmentation Decathlon (MSD)."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unprompted.errors import DataRefused

DESCRIPTION = "dataset.json"


@dataclass(frozen=True)
class Description:
    """What a ``dataset.json`` says.

    Attributes:
        kind: "nnU-Net" or "MSD".
        classes: label value to name, without background and ignore; None where labels are regions.
        ignore: the value of the ignore label, if there is one.
    """

    kind: str
    classes: dict[int, str] | None
    ignore: int | None


def read_description(folder: Path) -> Description | None:
    """What the folder's ``dataset.json`` says, None where there is none.

    Raises:
        DataRefused: the file is not JSON or its labels have neither of the two known forms.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        return None
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataRefused(f"{path}: is not valid JSON ({error})") from error
    labels = entries.get("labels") if isinstance(entries, dict) else None
    if not isinstance(labels, dict):
        raise DataRefused(f'{path}: has no "labels" table')
    if all(key.isdigit() and isinstance(name, str) for key, name in labels.items()):
        named = {name: int(key) for key, name in labels.items()}
        if len(named) < len(labels):
            named = {f"{name} ({key})" if int(key) else name: int(key) for key, name in labels.items()}
        return _description("MSD", named)
    return _description("nnU-Net", _values(labels, path))


def _values(labels: dict[str, Any], path: Path) -> dict[str, int] | None:
    """nnU-Net's labels by name; None where one is a region of several values."""
    if any(isinstance(value, list) for value in labels.values()):
        return None
    try:
        return {name: int(value) for name, value in labels.items()}
    except (TypeError, ValueError) as error:
        raise DataRefused(
            f'{path}: labels are {{"liver": 1}} (nnU-Net) or {{"1": "liver"}} (MSD), found {labels}'
        ) from error


def _description(kind: str, named: dict[str, int] | None) -> Description:
    if named is None:
        return Description(kind, None, None)
    ignore = named.get("ignore")
    classes = {value: name for name, value in named.items() if value not in (0, ignore)}
    return Description(kind, dict(sorted(classes.items())), ignore)
