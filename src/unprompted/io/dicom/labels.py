"""Label objects (SEG and RTSTRUCT) as label maps on the grid of an image."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unprompted.errors import LabelRefused, UnreadableFile
from unprompted.geometry import Grid, canonical_reordering
from unprompted.images import LabelMap
from unprompted.io.dicom.masks import NamedMask
from unprompted.io.dicom.rtstruct import roi_masks, roi_names
from unprompted.io.dicom.seg import own_grid, segment_masks, segment_names
from unprompted.io.dicom.series import RTSTRUCT_CLASS, SEG_CLASSES, dataset_of, header_of, series_under

_LOG = logging.getLogger(__name__)


def label_objects(path: Path) -> tuple[Path, ...]:
    """The SEG and RTSTRUCT files that a path stands for: itself, or those of a folder."""
    if path.is_file():
        return (path,)
    return tuple(file for series in series_under(path) if series.holds_labels for file in series.files)


def names_in(path: Path) -> tuple[str, ...]:
    """The class names of the label objects of a path, in their order; pixels are not read.

    Raises:
        LabelRefused: it holds no label object, or the same name twice.
    """
    found: list[str] = []
    for file in _checked(path):
        dataset = dataset_of(file, pixels=False)
        names = roi_names(dataset) if _is_rtstruct(file) else segment_names(dataset)
        found += names.values()
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise LabelRefused(
            f"{path.name}: holds {', '.join(twice)} more than once; keep one object or segment of a name"
        )
    return tuple(found)


def read_label_objects(path: Path, grid: Grid | None) -> LabelMap:
    """The classes of all label objects of a path, numbered 1, 2, ... in their order, or as we wrote them.

    Args:
        path: a SEG or RTSTRUCT file, or a folder of such that belong to one image.
        grid: of the image; None takes the frames of a SEG as the grid.

    Raises:
        LabelRefused: it holds no label object, an RTSTRUCT has no image, or nothing of it lies in the image.
        UnreadableFile: an object is damaged.
    """
    files = _checked(path)
    names_in(path)
    masks: list[NamedMask] = []
    if grid is None:
        grid = _grid_of_its_own(files, path)
    for file in files:
        dataset = dataset_of(file)
        masks += (
            roi_masks(dataset, grid, file.name) if _is_rtstruct(file) else segment_masks(dataset, grid, file)
        )
    return _merged(masks, grid, path.name)


def _checked(path: Path) -> tuple[Path, ...]:
    files = label_objects(path)
    others = [f.name for f in files if str(header_of(f).SOPClassUID) not in (*SEG_CLASSES, RTSTRUCT_CLASS)]
    if others or not files:
        found = f"{others[0]} is a {header_of(path).SOPClassUID.name}" if others else "there is none"
        raise LabelRefused(f"{path.name}: labels in DICOM are SEG or RTSTRUCT objects; {found}")
    return files


def _is_rtstruct(file: Path) -> bool:
    return str(header_of(file).SOPClassUID) == RTSTRUCT_CLASS


def _grid_of_its_own(files: Sequence[Path], path: Path) -> Grid:
    if len(files) > 1 or _is_rtstruct(files[0]):
        raise LabelRefused(
            f"{path.name}: holds outlines, which become voxels only with their image; give the image series "
            "with it"
        )
    native = own_grid(dataset_of(files[0], pixels=False), files[0])
    return canonical_reordering(native).apply_to_grid(native) if native.in_mm else native


def _merged(masks: Sequence[NamedMask], grid: Grid, name: str) -> LabelMap:
    """One label map of all masks; where two overlap the later one stays, and that is logged."""
    if not masks:
        raise LabelRefused(f"{name}: describes no structure")
    if any(mask.drawn for mask in masks) and not any(mask.inside.any() for mask in masks):
        missed = ", ".join(mask.name for mask in masks)
        raise LabelRefused(f"{name}: nothing of {missed} lies inside the image; is it of another image?")
    own = {mask.value for mask in masks} - {None}
    values = [mask.value or 0 for mask in masks] if len(own) == len(masks) else range(1, len(masks) + 1)
    classes = {value: mask.name for value, mask in zip(values, masks, strict=True)}
    labels: Any = np.zeros(grid.shape, dtype=np.uint8 if max(values) < 256 else np.uint16)
    for value, mask in zip(values, masks, strict=True):
        taken = labels[mask.inside]
        for below in np.unique(taken[taken > 0]):
            _LOG.warning(
                "%s: %d voxels of %s are also in %s; a label map holds one class a voxel, so they go to %s",
                name, int((taken == below).sum()), classes[int(below)], mask.name, mask.name,
            )  # fmt: skip
        labels[mask.inside] = value
    return LabelMap(labels, grid, dict(sorted(classes.items())))


def renumbered(labels: LabelMap, classes: dict[int, str]) -> LabelMap:
    """The same labels under the values that a table gives their names; names it lacks become background.

    DICOM objects number their segments each on their own, so that only names can be compared.

    Raises:
        UnreadableFile: the label map has no names.
    """
    if not labels.classes:
        raise UnreadableFile("the label map names no class")
    values = {name.casefold(): value for value, name in classes.items()}
    wide = max(classes, default=0) > 255
    table = np.zeros(max(labels.classes) + 1, dtype=np.uint16 if wide else np.uint8)
    for value, name in labels.classes.items():
        table[value] = values.get(name.casefold(), 0)
    values_now: Any = table[labels.labels]
    return LabelMap(values_now, labels.grid, classes, labels.labelled)
