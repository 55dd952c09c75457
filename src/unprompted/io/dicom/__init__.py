"""DICOM series as images, and label maps as DICOM objects, through pydicom and highdicom."""

import logging
from pathlib import Path

from unprompted.errors import LabelRefused
from unprompted.geometry import Grid, canonical_reordering
from unprompted.images import LabelMap, Volume
from unprompted.io.base import FOLDER, case_name
from unprompted.io.dicom.archive import is_zip
from unprompted.io.dicom.image import stored_image
from unprompted.io.dicom.labels import read_label_objects
from unprompted.io.dicom.series import SUFFIXES, is_dicom, is_dicom_folder, series_of
from unprompted.io.video import frame_names, write_masks

_LOG = logging.getLogger(__name__)


class Dicom:
    """Reads a DICOM series, SEG and RTSTRUCT; writes SEG. One file stands for the series it is part of."""

    suffixes = (".dcm", ".dicom", ".ima", ".zip", FOLDER)
    holds_labels = False

    def takes(self, path: Path) -> bool:
        """Whether a folder holds DICOM, or a file without an ending known is DICOM."""
        return is_dicom_folder(path) if path.is_dir() else is_dicom(path)

    def files_of(self, path: Path) -> tuple[Path, ...]:
        """All files of the series that a path stands for."""
        series = series_of(path)
        return (path,) if series.of_pictures and path.is_file() else series.files

    def read(self, path: Path) -> Volume:
        """The series in canonical order; what is unusual about its geometry is logged as a warning."""
        image = stored_image(path)
        for notice in image.notices:
            _LOG.warning("%s: %s", path.name, notice)
        if image.axis == "t":
            return Volume(image.pixels(), image.grid, axis="t", name=case_name(path))
        order = canonical_reordering(image.grid)
        voxels = order.apply(image.pixels())
        return Volume(voxels, order.apply_to_grid(image.grid), name=case_name(path))

    def read_labels(self, path: Path) -> LabelMap:
        """The segments of a SEG on the grid of its own frames, in canonical order."""
        return read_label_objects(path, None)

    def read_labels_onto(self, path: Path, grid: Grid) -> LabelMap:
        """The segments of SEG or RTSTRUCT objects (a file, or all of a folder) on the grid of an image."""
        return read_label_objects(path, grid)

    def result_suffix(self, like: Path) -> str:
        """A SEG object; a folder of masks for a clip."""
        return SUFFIXES[0] if stored_image(like).axis == "z" else ""

    def write_labels(self, labels: LabelMap, path: Path, like: Path) -> None:
        """Write a BINARY SEG of the DICOM series `like`; for a clip, what `Video` writes for a film.

        `unprompted.io.dicom.seg_writing` and `.rtstruct_writing` write other kinds.
        """
        from unprompted.io.dicom.seg_writing import write_seg

        if not (like.is_dir() or is_zip(like) or is_dicom(like)):
            raise LabelRefused(
                f"{path.name}: a DICOM object refers to the DICOM images it was made from, and {like.name} "
                "is none; choose another output format"
            )
        if not path.name.lower().endswith(SUFFIXES):
            video = self.read(like)
            write_masks(labels, path, video, frame_names(like, len(video.voxels)))
            return
        write_seg(labels, path, like)
