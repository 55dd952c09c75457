"""npz archives with the arrays ``image`` and ``label``, as in the TransUNet Synapse files."""

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unprompted.errors import LabelRefused, UnreadableFile
from unprompted.geometry import Grid, canonical_reordering
from unprompted.images import LabelMap, Volume
from unprompted.io.atomic import replacing
from unprompted.io.base import case_name
from unprompted.io.labels import label_map, sized_labels, stored_labels

Arrays = Mapping[str, NDArray[Any]]
GEOMETRY_KEYS = ("affine", "spacing")


class Npz:
    """Reads and writes npz; a ``(4, 4)`` ``affine`` or a ``spacing`` array is honoured.

    ``affine`` takes array index to RAS+ mm; ``spacing`` is in mm along the array's own axes. Without
    either the image has no physical size.
    """

    suffixes = (".npz",)
    holds_labels = True

    def read(self, path: Path) -> Volume:
        """The array ``image`` in canonical order."""
        return volume_from(_arrays(path, ("image",)), path)

    def read_labels(self, path: Path) -> LabelMap:
        """The array ``label`` in canonical order."""
        return labels_from(_arrays(path, ("label",)), path)

    def result_suffix(self, like: Path) -> str:
        """The ending of the image."""
        return like.suffix.lower()

    def write_labels(self, labels: LabelMap, path: Path, like: Path) -> None:
        """Write ``label`` in the array order of `like`, and its geometry if it has one."""
        known = like.name.lower().endswith(self.suffixes)
        arrays = arrays_to_write(labels, _arrays(like, ("image",)) if known else None, like)
        with replacing(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in arrays.items():  # numpy's own savez would store the time of day
                content = io.BytesIO()
                np.lib.format.write_array(content, array, allow_pickle=False)
                archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content.getvalue(), zipfile.ZIP_DEFLATED)


def _arrays(path: Path, wanted: tuple[str, ...]) -> Arrays:
    # Opened here, since numpy leaves a file it cannot read open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return picked(archive, wanted, path)


def picked(
    source: Any, wanted: tuple[str, ...], path: Path, get: Callable[[Any], Any] = np.asarray
) -> Arrays:
    """The wanted arrays of an open archive, and those that tell its geometry.

    Raises:
        UnreadableFile: a wanted array is not there.
    """
    missing = [name for name in wanted if name not in source]
    if missing:
        raise UnreadableFile(
            f"{path.name}: there is no array {', '.join(missing)}; it holds {', '.join(sorted(source))}"
        )
    return {name: get(source[name]) for name in (*wanted, *GEOMETRY_KEYS) if name in source}


def volume_from(arrays: Arrays, path: Path) -> Volume:
    """A volume of the array ``image``: (H, W), (D, H, W), or with a last axis of 3 colours, 2D only.

    Raises:
        UnreadableFile: the array has another number of axes.
    """
    image = arrays["image"]
    is_colour = (image.ndim == 4 and image.shape[3] == 3) or (image.ndim == 3 and image.shape[2] == 3)
    if is_colour:
        image = image if image.ndim == 4 else image[None]
    elif image.ndim in (2, 3):
        image = image if image.ndim == 3 else image[None]
    else:
        raise UnreadableFile(
            f"{path.name}: an image is (H, W), (D, H, W) or has a last axis of 3 colours, "
            f"found shape {image.shape}"
        )
    native = _native_grid(arrays, image.shape[:3], path)
    order = canonical_reordering(native)
    return Volume(order.apply(image.astype(np.float32)), order.apply_to_grid(native), name=case_name(path))


def labels_from(arrays: Arrays, path: Path) -> LabelMap:
    """A label map of the array ``label``: (H, W) or (D, H, W).

    Raises:
        LabelRefused: the array has another number of axes.
    """
    label = arrays["label"]
    if label.ndim not in (2, 3):
        raise LabelRefused(f"{path.name}: labels are (H, W) or (D, H, W), found shape {label.shape}")
    label = label if label.ndim == 3 else label[None]
    native = _native_grid(arrays, label.shape, path)
    return label_map(label, native, path.name)


def arrays_to_write(labels: LabelMap, like: Arrays | None, path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a label file: ``label`` in the order of `like` and the geometry `like` has."""
    if like is None:
        geometry = {"affine": labels.grid.affine} if labels.grid.in_mm else {}
        return {"label": sized_labels(labels), **geometry}
    shape = like["image"].shape
    flat = len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)
    depth_first = (1, *shape[:2]) if flat else shape[:3]
    native = _native_grid(like, depth_first, path)
    stored = stored_labels(labels, native)
    geometry = {name: like[name] for name in GEOMETRY_KEYS if name in like}
    return {"label": stored[0] if flat else stored, **geometry}


def _native_grid(arrays: Arrays, shape: tuple[int, ...], path: Path) -> Grid:
    if 0 in shape:
        raise UnreadableFile(f"{path.name}: holds no voxel, shape {shape}")
    size = (shape[0], shape[1], shape[2])
    if "affine" in arrays:
        return Grid(size, arrays["affine"])
    if "spacing" not in arrays:
        return Grid.without_mm(size)
    spacing = [float(s) for s in np.ravel(arrays["spacing"])]
    if len(spacing) == 2:
        spacing = [1.0, *spacing]
    if len(spacing) != 3 or min(spacing) <= 0:
        raise UnreadableFile(f"{path.name}: spacing is 2 or 3 positive numbers, found {spacing}")
    return Grid.with_spacing(size, (spacing[0], spacing[1], spacing[2]))
