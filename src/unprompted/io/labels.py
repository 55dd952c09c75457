"""What every format shares about labels: checking values, and carrying names and colours."""

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from unprompted.errors import DataRefused, LabelRefused
from unprompted.geometry import Grid, canonical_reordering, reordering_between
from unprompted.images import LabelMap, largest_label
from unprompted.io.atomic import replacing
from unprompted.palette import colour_of, hex_of

LABEL_NAMES = "labels.json"
_ROUNDING = 1e-4  # what a stored scale factor may add to an integer
Labels = NDArray[np.uint8] | NDArray[np.uint16]


def as_labels(values: NDArray[Any], name: str) -> Labels:
    """The values of a label file as uint8, or uint16 where one exceeds 255; the shape stays.

    Args:
        values: any integers, or floats that hold integers.
        name: of the file, for messages.

    Raises:
        DataRefused: values are NaN or infinite.
        LabelRefused: values are fractions, negative or above 65535.
    """
    if values.dtype == bool:
        values = values.astype(np.uint8)
    if values.size == 0:
        raise LabelRefused(f"{name}: the label file holds no voxel, shape {values.shape}")
    if np.issubdtype(values.dtype, np.floating):
        if not np.isfinite(values).all():
            raise DataRefused(f"{name}: labels are NaN or infinite; write 0 for background")
        whole = np.round(values)
        fractions = np.abs(whole - values) > _ROUNDING
        if fractions.any():
            found = float(values[fractions].flat[0])
            raise LabelRefused(
                f"{name}: labels are integers, found {found:g}; a label map that was interpolated or "
                "holds probabilities must be made again (nearest neighbour, or a threshold)"
            )
        values = whole
    elif not np.issubdtype(values.dtype, np.integer):
        raise LabelRefused(f"{name}: labels are integers, found values of type {values.dtype}")
    low, high = int(values.min()), int(values.max())
    if low < 0:
        raise LabelRefused(f"{name}: labels are 0 (background) and up, found {low}")
    if high > 65535:
        raise LabelRefused(f"{name}: labels are at most 65535, found {high}")
    return values.astype(np.uint16) if high > 255 else values.astype(np.uint8)


def label_map(
    values: NDArray[Any], native: Grid, name: str, classes: dict[int, str] | None = None
) -> LabelMap:
    """Checked labels in canonical order.

    Args:
        values: as `as_labels` takes them, in the order of `native`.
        native: the grid as stored.
        name: of the file, for messages.
        classes: the class names the file carries.
    """
    order = canonical_reordering(native)
    labels: Any = as_labels(values, name)
    return LabelMap(order.apply(labels), order.apply_to_grid(native), classes or {})


def stored_labels(labels: LabelMap, native: Grid) -> Labels:
    """Labels back in the order of a stored grid, uint8 or uint16.

    Raises:
        GeometryMismatch: the labels do not lie on the voxels of that grid.
    """
    array: Any = sized_labels(labels)
    back: Labels = reordering_between(labels.grid, native).apply(array)
    return back


def sized_labels(labels: LabelMap) -> Labels:
    """Labels as uint8, or uint16 where a class index or a label exceeds 255.

    The classes count too, so that all cases of one task are written in the same type.
    """
    highest = max([largest_label(labels.labels), *labels.classes])
    if highest > 255:
        return labels.labels.astype(np.uint16, copy=False)
    return labels.labels.astype(np.uint8, copy=False)


def write_label_names(folder: Path, classes: dict[int, str]) -> Path:
    """Write ``labels.json``: label value to name and colour; gives back its path."""
    entries = {str(value): {"name": name, "colour": hex_of(value)} for value, name in sorted(classes.items())}
    path = folder / LABEL_NAMES
    with replacing(path) as partial:
        partial.write_text(json.dumps(entries, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def read_label_names(folder: Path) -> dict[int, str] | None:
    """The classes named by a folder's ``labels.json``, or None where there is none.

    Raises:
        DataRefused: the file is not of the form ``{"1": "liver"}`` or ``{"1": {"name": "liver"}}``.
    """
    path = folder / LABEL_NAMES
    if not path.is_file():
        return None
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        named = {int(k): v["name"] if isinstance(v, dict) else v for k, v in entries.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataRefused(f'{path}: expected {{"1": {{"name": "liver"}}}}, {error!r}') from error
    if not all(isinstance(name, str) for name in named.values()):
        raise DataRefused(f"{path}: every class name is a text")
    return {value: name for value, name in sorted(named.items()) if value != 0}


def caret_table(classes: dict[int, str]) -> bytes:
    """A Connectome Workbench label table, the content of NIfTI extension 30."""
    root = ElementTree.Element("CaretExtension")
    volume = ElementTree.SubElement(root, "VolumeInformation", Index="0")
    table = ElementTree.SubElement(volume, "LabelTable")
    for value, name in sorted(classes.items()):
        red, green, blue = (f"{channel / 255:.6f}" for channel in colour_of(value))
        label = ElementTree.SubElement(
            table, "Label", Key=str(value), Red=red, Green=green, Blue=blue, Alpha="1"
        )
        label.text = name
    ElementTree.SubElement(volume, "StudyMetaDataLinkSet")
    ElementTree.SubElement(volume, "VolumeType").text = "Label"
    table_text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{table_text}'.encode()


def classes_of_caret_table(content: bytes) -> dict[int, str]:
    """The classes of a Workbench label table; empty where the content is not one."""
    text = content.rstrip(b"\0")
    if re.search(rb"<!(DOCTYPE|ENTITY)", text):  # an entity bomb; no label table has either
        return {}
    try:
        root = ElementTree.fromstring(text)
        named = {int(label.get("Key", "0")): label.text or "" for label in root.iter("Label")}
    except (ElementTree.ParseError, ValueError):
        return {}
    return {value: name for value, name in sorted(named.items()) if value > 0 and name}
