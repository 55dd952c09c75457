"""NIfTI files (``.nii``, ``.nii.gz``) through nibabel."""

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.arrayproxy import ArrayProxy
from nibabel.nifti1 import Nifti1Extension, Nifti1Image
from numpy.typing import NDArray

from unprompted.errors import LabelRefused, UnreadableFile
from unprompted.geometry import Affine, Grid, canonical_reordering, reordering_between
from unprompted.images import LabelMap, Volume
from unprompted.io.atomic import replacing
from unprompted.io.base import case_name
from unprompted.io.labels import caret_table, classes_of_caret_table, label_map, stored_labels
from unprompted.slices import block_ranges, release, room_for

_CARET = 30  # NIfTI extension code of Connectome Workbench
_LABEL_INTENT = 1002
_MM_PER_UNIT = {"meter": 1000.0, "micron": 0.001}  # all else is taken as mm, "unknown" too


class Nifti:
    """Reads and writes NIfTI-1 and NIfTI-2; array index (i, j, k) is axis (0, 1, 2) of the file."""

    suffixes = (".nii.gz", ".nii")
    holds_labels = False

    def read(self, path: Path) -> Volume:
        """The image in canonical order, scl slope applied."""
        image = _load(path)
        stored = _proxy(image)
        native = _native_grid(image, path)
        grid = canonical_reordering(native).apply_to_grid(native)
        colours = (3,) if stored.dtype.fields else ()  # NIfTI RGB24 and RGBA32
        voxels = room_for(grid.shape + colours, np.float32)
        filled = reordering_between(grid, native).view(voxels)
        along_k = (native.shape[2], native.shape[0], native.shape[1], *colours)
        for start, stop in block_ranges(along_k, np.float64):
            part = np.asanyarray(stored[:, :, start:stop])
            if colours:
                part = np.stack([part[channel] for channel in "RGB"], axis=-1)
            with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which Volume refuses
                filled[:, :, start:stop] = part.astype(np.float32)
            release(voxels)
        return Volume(voxels, grid, name=case_name(path))

    def read_labels(self, path: Path) -> LabelMap:
        """The labels in canonical order, with the class names of the file's label table."""
        image = _load(path)
        if len(_shape(image)) > 3:
            raise LabelRefused(
                f"{path.name}: a label file is 3D, found shape {image.shape}; "
                "store one integer label map, not one channel a class"
            )
        values = _stored(image)
        if values.dtype.fields:
            raise LabelRefused(f"{path.name}: labels are integers, found colours")
        native = _native_grid(image, path)
        classes: dict[int, str] = {}
        for extension in image.header.extensions:
            if extension.get_code() == _CARET:
                classes |= classes_of_caret_table(bytes(extension.content))
        return label_map(values, native, path.name, classes)

    def result_suffix(self, like: Path) -> str:
        """Compressed NIfTI, whatever the image is."""
        return ".nii.gz"

    def write_labels(self, labels: LabelMap, path: Path, like: Path) -> None:
        """Write labels with the header of `like`; in canonical order where `like` is no NIfTI.

        Equal labels give equal bytes: the gzip header holds neither a name nor a time.
        """
        if like.name.lower().endswith(self.suffixes):
            source = _load(like)
            native = _native_grid(source, like)
            shape, header, kind = source.shape, source.header.copy(), type(source)
            affine = None  # nibabel then keeps qform, sform and their codes
        else:
            native, header, kind = labels.grid, None, Nifti1Image
            shape, affine = native.shape, native.affine
        image = kind(stored_labels(labels, native).reshape(shape), affine, header)
        _prepare_header(image, labels.classes)
        _write(image, path)


def write_volume(volume: Volume, path: Path) -> None:
    """Write an image of one channel as NIfTI, in canonical order; equal images give equal bytes."""
    image = Nifti1Image(volume.voxels, volume.grid.affine)
    image.header.set_xyzt_units("mm" if volume.grid.in_mm else "unknown")
    _write(image, path)


def _load(path: Path) -> Any:
    image = nib.load(path)
    if not isinstance(image, Nifti1Image):
        raise UnreadableFile(f"{path}: is a {type(image).__name__}, not a single-file NIfTI")
    return image


def _shape(image: Any) -> tuple[int, ...]:
    """The shape without trailing axes of one voxel beyond the third."""
    shape = tuple(int(n) for n in image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape + (1,) * (3 - len(shape))


def _proxy(image: Any) -> Any:
    """What reads the voxels, slab by slab; it has three axes."""
    shape = _shape(image)
    if len(shape) > 3:
        raise UnreadableFile(
            f"an image is 2D or 3D, found shape {image.shape}; split it into one file a channel or time point"
        )
    stored = image.dataobj
    how = (shape, stored.dtype, stored.offset, stored.slope, stored.inter)
    # An archive that is opened again for every slab is unpacked from its beginning every time.
    return ArrayProxy(stored.file_like, how, keep_file_open=True)


def _stored(image: Any) -> NDArray[Any]:
    values: NDArray[Any] = np.asanyarray(_proxy(image))
    return values


def _native_grid(image: Any, path: Path) -> Grid:
    shape = _shape(image)
    if 0 in shape:
        raise UnreadableFile(f"{path.name}: holds no voxel, shape {image.shape}")
    affine: Affine = np.array(image.affine, dtype=np.float64)
    affine[:3] *= _MM_PER_UNIT.get(image.header.get_xyzt_units()[0], 1.0)
    return Grid((shape[0], shape[1], shape[2]), affine)


def _prepare_header(image: Any, classes: dict[int, str]) -> None:
    header = image.header
    header.set_data_dtype(image.dataobj.dtype)
    header.set_slope_inter(1, 0)
    header.set_intent(_LABEL_INTENT, allow_unknown=True)
    header["cal_min"] = header["cal_max"] = 0
    header["descrip"] = header["aux_file"] = b""  # free text may name the patient
    if "db_name" in header:
        header["db_name"] = b""
    # Extensions of the query (DICOM headers, say) may name the patient too.
    header.extensions.clear()
    if classes:
        header.extensions.append(Nifti1Extension(_CARET, caret_table(classes)))


def _write(image: Any, path: Path) -> None:
    """Write an image slice by slice, compressed where its name says so."""
    with replacing(path) as partial, partial.open("wb") as file:
        if not path.name.lower().endswith(".gz"):
            image.to_stream(file)
            return
        with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=6, mtime=0) as stream:
            image.to_stream(stream)
