"""PNG, JPEG, TIFF and BMP pictures through pillow."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from unprompted.errors import GeometryMismatch, LabelRefused, UnreadableFile
from unprompted.geometry import Grid
from unprompted.images import LabelMap, Volume
from unprompted.io.atomic import replacing
from unprompted.io.base import case_name, refusing
from unprompted.io.labels import Labels, as_labels, sized_labels
from unprompted.palette import colour_table

Pixels = NDArray[np.generic]
_GREY = ("1", "L", "I", "F", "LA", "La")
_STACKS = (".tif", ".tiff")


class Raster:
    """Reads and writes pictures; a TIFF of several pages is a stack. Pixels have no size in mm."""

    suffixes = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
    holds_labels = False

    def read(self, path: Path) -> Volume:
        """``(1, H, W)`` for grey or ``(1, H, W, 3)`` for colour, as stored; transparency is dropped."""
        with Image.open(path) as picture:
            pages = [_pixels(page) for page in _pages(picture)]
        if len({page.ndim for page in pages}) > 1:
            pages = [page if page.ndim == 3 else np.stack([page] * 3, axis=-1) for page in pages]
        voxels = _stack(pages, path).astype(np.float32)
        return Volume(voxels, _grid(voxels), name=case_name(path))

    def read_labels(self, path: Path) -> LabelMap:
        """The labels of a picture; a mask of exactly 0 and 255 holds one class, 1."""
        if path.name.lower().endswith((".jpg", ".jpeg")):
            raise LabelRefused(f"{path.name}: JPEG changes label values; store labels as PNG")
        with Image.open(path) as picture:
            pages = [_label_pixels(page, path.name) for page in _pages(picture)]
        labels = as_labels(_stack(pages, path), path.name)
        if is_binary_mask(labels):
            labels = (labels // 255).astype(np.uint8)
        return LabelMap(labels, _grid(labels))

    def result_suffix(self, like: Path) -> str:
        """PNG, or TIFF for a stack of pages."""
        if not like.name.lower().endswith(_STACKS):
            return ".png"
        with Image.open(like) as picture:
            return ".tif" if getattr(picture, "n_frames", 1) > 1 else ".png"

    def write_labels(self, labels: LabelMap, path: Path, like: Path) -> None:
        """Write an indexed picture in the fixed palette, or plain 16 bits above 255 classes.

        Raises:
            GeometryMismatch: labels and `like` differ in size.
            LabelRefused: several slices go to a format of one page.
        """
        if like.name.lower().endswith(self.suffixes):
            with Image.open(like) as picture:
                wanted = (getattr(picture, "n_frames", 1), picture.height, picture.width)
            if labels.labels[:1].shape[1:] != wanted[1:]:
                raise GeometryMismatch(f"labels are {labels.labels.shape}, {like.name} is {wanted}")
        pages = [label_picture(page) for page in sized_labels(labels)]
        stack = path.name.lower().endswith(_STACKS)
        if len(pages) > 1 and not stack:
            raise LabelRefused(f"{path.name}: {len(pages)} slices need a .tif file")
        with replacing(path) as partial:
            if len(pages) > 1:
                pages[0].save(partial, save_all=True, append_images=pages[1:], compression="tiff_lzw")
            else:
                pages[0].save(partial)


def is_binary_mask(labels: Labels) -> bool:
    """Whether a mask holds 0 and 255 and nothing else, so that 255 can only mean "inside"."""
    return set(np.unique(labels)) == {0, 255}


def mask_values(path: Path) -> set[int]:
    """All values of a mask picture, 255 not yet read as 1.

    Raises:
        UnreadableFile: the picture is truncated or damaged.
    """
    with refusing(path), Image.open(path) as picture:
        pages = [_label_pixels(page, path.name) for page in _pages(picture)]
    return {int(value) for page in pages for value in np.unique(page)}


def grey_values(path: Path) -> NDArray[np.uint8]:
    """The greys ``(H, W)`` of a picture, for masks whose greys are not yet labels."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L"))


def label_picture(labels: Labels) -> Image.Image:
    """An indexed picture of ``(H, W)`` labels; plain 16-bit grey for uint16."""
    if labels.dtype == np.uint16:
        return Image.fromarray(labels)
    picture = Image.fromarray(labels).convert("L")
    picture.putpalette(colour_table(256).tobytes())
    return picture


def _pages(picture: Image.Image) -> list[Image.Image]:
    """Every page of a TIFF, copied so that it outlives the file; the first of anything else."""
    if picture.format != "TIFF":
        picture.load()
        return [picture]
    return [page.copy() for page in ImageSequence.Iterator(picture)]


def _stack(pages: list[Pixels], path: Path) -> Pixels:
    if len({page.shape for page in pages}) > 1:
        shapes = sorted({page.shape for page in pages})
        raise UnreadableFile(f"{path.name}: the pages of a stack have one size, found {shapes}")
    return np.stack(pages)


def _grid(voxels: Pixels) -> Grid:
    d, h, w = voxels.shape[:3]
    return Grid.without_mm((d, h, w))


def _pixels(picture: Image.Image) -> Pixels:
    if picture.mode.startswith("I;16") or picture.mode in _GREY:
        mode = {"1": "L", "LA": "L", "La": "L"}.get(picture.mode)
        return np.asarray(picture.convert(mode) if mode else picture)
    if picture.mode == "P" and picture.palette is not None and _is_grey(picture):
        return np.asarray(picture.convert("L"))
    return np.asarray(picture.convert("RGB"))


def _is_grey(picture: Image.Image) -> bool:
    palette = np.asarray(picture.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    return bool(np.all(palette == palette[:, :1]))


def _label_pixels(picture: Image.Image, name: str) -> Pixels:
    if picture.mode == "P":
        return np.asarray(picture)  # the index, not the colour, is the label
    if picture.mode == "1":
        return np.asarray(picture).astype(np.uint8)
    pixels = _pixels(picture)
    if pixels.ndim == 2:
        return pixels
    if (pixels == pixels[..., :1]).all():
        return pixels[..., 0]
    raise LabelRefused(
        f"{name}: the mask is a colour picture; store the label of each pixel as an integer, "
        "in an indexed or greyscale PNG"
    )
