"""Mask pictures of 0 and 255, in which 255 means "inside"."""

from dataclasses import replace

from unprompted.datasets.base import FolderLayout
from unprompted.datasets.dicom import is_label_object
from unprompted.datasets.pairing import listed
from unprompted.errors import LabelRefused
from unprompted.io.raster import Raster, mask_values
from unprompted.io.video import frame_files


def noting_binary_masks(layout: FolderLayout) -> FolderLayout:
    """Say so where 255 is read as 1; refuse where only some masks are of 0 and 255.

    Raises:
        LabelRefused: 255 means "inside" in one mask and cannot mean it in another.
    """
    values: dict[str, set[int]] = {}
    for case in layout.cases:
        if case.labels is None or is_label_object(case.labels):
            continue
        files = frame_files(case.labels) if case.labels.is_dir() else [case.labels]
        values |= {f.name: mask_values(f) for f in files if f.suffix.lower() in Raster.suffixes}
    binary = sorted(name for name, found in values.items() if found == {0, 255})
    other = sorted(name for name, found in values.items() if not found <= {0, 255})
    if binary and other:
        raise LabelRefused(
            f"some masks hold 0 and 255 ({listed(binary, 3)}) and some other labels ({listed(other, 3)}); "
            "store the same integer for the same class in every mask"
        )
    if not binary:
        return layout
    return replace(layout, note=f"{layout.note}, masks hold 0 and 255: 255 is taken as class 1")
