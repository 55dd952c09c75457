"""NRRD, MHA and MHD files through SimpleITK."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name everybody knows it by
from numpy.typing import NDArray

from unprompted.errors import LabelRefused, UnreadableFile
from unprompted.geometry import Affine, Grid, canonical_reordering
from unprompted.images import LabelMap, Volume
from unprompted.io.atomic import replacing
from unprompted.io.base import case_name
from unprompted.io.labels import label_map, stored_labels
from unprompted.palette import colour_of

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


class Itk:
    """Reads and writes NRRD and MetaImage; array axes (0, 1, 2) are ITK's (k, j, i)."""

    suffixes = (".seg.nrrd", ".nrrd", ".mha", ".mhd")
    holds_labels = False

    def read(self, path: Path) -> Volume:
        """The image in canonical order; three components are taken as RGB."""
        image = _load(path)
        native = _native_grid(image, path)
        channels = image.GetNumberOfComponentsPerPixel()
        if channels not in (1, 3):
            raise UnreadableFile(f"{path.name}: an image has 1 or 3 components, found {channels}")
        order = canonical_reordering(native)
        voxels = _stored(image, native).astype(np.float32)
        return Volume(order.apply(voxels), order.apply_to_grid(native), name=case_name(path))

    def read_labels(self, path: Path) -> LabelMap:
        """The labels in canonical order, with the segment names of a Slicer segmentation."""
        image = _load(path, LabelRefused)
        if image.GetNumberOfComponentsPerPixel() != 1:
            raise LabelRefused(
                f"{path.name}: a label file has one component, found "
                f"{image.GetNumberOfComponentsPerPixel()}; store one integer label map"
            )
        native = _native_grid(image, path)
        return label_map(_stored(image, native), native, path.name, _segment_names(image))

    def result_suffix(self, like: Path) -> str:
        """The ending of the image."""
        return like.suffix.lower()

    def write_labels(self, labels: LabelMap, path: Path, like: Path) -> None:
        """Write labels on the stored grid of `like`; in canonical order where `like` is no ITK file."""
        source = _load(like) if like.name.lower().endswith(self.suffixes) else None
        native = _native_grid(source, like) if source is not None else labels.grid
        stored = stored_labels(labels, native)
        flat = source is not None and source.GetDimension() == 2
        image: Any = sitk.GetImageFromArray(stored[0] if flat else stored)
        if source is not None:
            image.CopyInformation(source)
        else:
            _set_geometry(image, native)
        for key, value in _segments(labels.classes).items():
            image.SetMetaData(key, value)
        with replacing(path) as partial:
            sitk.WriteImage(image, str(partial), useCompression=True)


def read_slices(files: Sequence[Path]) -> Volume:
    """A volume from files of one slice each (DICOM, say), stacked in the given order.

    Raises:
        UnreadableFile: the slices do not make a volume.
    """
    slices = [_load(file) for file in files]
    grids = [_native_grid(image, file) for image, file in zip(slices, files, strict=True)]
    first, last = grids[0], grids[-1]
    if any(g.shape != (1, *first.shape[1:]) for g in grids):
        sizes = sorted({g.shape for g in grids})
        raise UnreadableFile(f"{files[0].parent}: slices of one size are wanted, found {sizes}")
    affine = first.affine.copy()
    if len(grids) > 1:  # the distance is that of positions: the thickness of slices may differ from it
        affine[:3, 0] = (last.affine[:3, 3] - first.affine[:3, 3]) / (len(grids) - 1)
    if not np.linalg.det(affine[:3, :3]):
        raise UnreadableFile(f"{files[0].parent}: the first and the last slice lie in the same plane")
    native = Grid((len(grids), *first.shape[1:]), affine)
    voxels = np.concatenate([_stored(i, g) for i, g in zip(slices, grids, strict=True)]).astype(np.float32)
    return Volume(voxels, native, name=files[0].parent.name)


def _load(path: Path, refusal: type[Exception] = UnreadableFile) -> Any:
    image: Any = sitk.ReadImage(str(path))
    if image.GetDimension() not in (2, 3):
        raise refusal(
            f"{path.name}: an image is 2D or 3D, found shape {image.GetSize()}; "
            "split it into one file a channel or time point"
        )
    return image


def _stored(image: Any, native: Grid) -> NDArray[Any]:
    values: NDArray[Any] = sitk.GetArrayFromImage(image)
    return values.reshape(native.shape + ((3,) if image.GetNumberOfComponentsPerPixel() == 3 else ()))


def _native_grid(image: Any, path: Path) -> Grid:
    """The grid of the array as SimpleITK hands it out: index (k, j, i), world RAS+."""
    dimension = image.GetDimension()
    affine: Affine = np.eye(4)
    direction = np.eye(3)
    direction[:dimension, :dimension] = np.reshape(image.GetDirection(), (dimension, dimension))
    spacing, origin, size = np.ones(3), np.zeros(3), np.ones(3, dtype=int)
    spacing[:dimension], origin[:dimension] = image.GetSpacing(), image.GetOrigin()
    size[:dimension] = image.GetSize()
    if not size.all():
        raise UnreadableFile(f"{path.name}: holds no voxel, shape {image.GetSize()}")
    affine[:3, :3] = (_LPS_TO_RAS @ direction * spacing)[:, ::-1]
    affine[:3, 3] = _LPS_TO_RAS @ origin
    k, j, i = (int(n) for n in size[::-1])
    return Grid((k, j, i), affine)


def _set_geometry(image: Any, native: Grid) -> None:
    columns = _LPS_TO_RAS @ native.affine[:3, :3][:, ::-1]
    spacing = np.linalg.norm(columns, axis=0)
    image.SetSpacing([float(s) for s in spacing])
    image.SetDirection([float(c) for c in (columns / spacing).ravel()])
    image.SetOrigin([float(o) for o in _LPS_TO_RAS @ native.affine[:3, 3]])


def _segments(classes: dict[int, str]) -> dict[str, str]:
    """Names and colours as 3D Slicer stores them in a segmentation file."""
    entries: dict[str, str] = {}
    for position, (value, name) in enumerate(sorted(classes.items())):
        colour = " ".join(f"{channel / 255:.6f}" for channel in colour_of(value))
        fields = {"ID": f"Segment_{value}", "Name": name, "LabelValue": str(value), "Color": colour}
        entries |= {f"Segment{position}_{field}": text for field, text in fields.items()}
    return entries


def _segment_names(image: Any) -> dict[int, str]:
    names = {}
    for key in image.GetMetaDataKeys():
        if key.startswith("Segment") and key.endswith("_LabelValue"):
            value = image.GetMetaData(key).strip()
            name_key = key.removesuffix("LabelValue") + "Name"
            if value.isdigit() and int(value) > 0 and image.HasMetaDataKey(name_key):
                names[int(value)] = image.GetMetaData(name_key)
    return dict(sorted(names.items()))
