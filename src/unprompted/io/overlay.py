"""One picture a case: what was found, or truth beside prediction, for people to look at."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from unprompted.errors import GeometryMismatch
from unprompted.images import LabelMap, Volume
from unprompted.intensity import Intensity, Scaled, scaled
from unprompted.io.atomic import replacing
from unprompted.io.paint import INK, PAPER, Picture, legend, painted, resized, text_font, to_bytes
from unprompted.slices import blocks

_MARGIN, _TITLE, _TEXT = 10, 24, 15
_NARROWEST = 400  # pixels, so that class names have room
_AS_THEY_ARE = Intensity("rgb", 0.0, 255.0)
_BY_PERCENTILE = Intensity("percentile", 0.5, 99.5)


@dataclass(frozen=True)
class _Tile:
    title: str
    picture: Picture


@dataclass(frozen=True, eq=False)
class Panel:
    """A picture with labels on it, beside a slice it belongs to.

    Attributes:
        title: one short line.
        picture: ``(H, W)`` or ``(H, W, 3)`` in 0..1.
        labels: ``(H, W)``.
    """

    title: str
    picture: NDArray[np.float32]
    labels: NDArray[np.unsignedinteger]


def overlay_png(
    volume: Volume,
    labels: LabelMap,
    path: Path,
    intensity: Intensity | None = None,
    slices: int = 6,
    tile: int = 320,
) -> None:
    """Write a contact sheet of one case: slices with labels drawn on, and the class names.

    A single image is shown twice, plain and with labels.

    Args:
        volume: the image.
        labels: on the grid of the image.
        path: the PNG to write.
        intensity: the display rule; None takes 8-bit pictures as they are, all else by percentiles.
        slices: how many slices at most, evenly spaced over the labelled range.
        tile: the longer side of one slice in pixels.

    Raises:
        GeometryMismatch: image and labels differ in shape.
    """
    _same_shape(volume, labels)
    shown = _display(volume, intensity)
    chosen = chosen_slices(labels.labels, slices)
    tiles = []
    for position in chosen:
        plain, mask = _sized(shown(position), labels.labels[position], volume, tile)
        if volume.grid.shape[0] == 1:
            tiles.append(_Tile("image", plain))
        tiles.append(_Tile(_title(volume, position), painted(plain, mask)))
    columns = min(len(tiles), 3 if len(tiles) > 4 or len(tiles) == 3 else 2)
    _save(_sheet(tiles, columns, volume.name, _entries(labels)), path)


def comparison_png(
    volume: Volume,
    truth: LabelMap,
    prediction: LabelMap,
    path: Path,
    intensity: Intensity | None = None,
    slices: int = 4,
    tile: int = 300,
) -> None:
    """Write a picture of three columns, image, truth and prediction, one row a slice.

    Args:
        volume: the image.
        truth: labels on the grid of the image.
        prediction: labels on the grid of the image.
        path: the PNG to write.
        intensity: as in `overlay_png`.
        slices: how many rows at most, evenly spaced over the range of the truth.
        tile: the longer side of one slice in pixels.

    Raises:
        GeometryMismatch: image and labels differ in shape.
    """
    _same_shape(volume, truth)
    _same_shape(volume, prediction)
    shown = _display(volume, intensity)
    source = truth if truth.labels.any() else prediction
    tiles = []
    for position in chosen_slices(source.labels, slices):
        plain, true_mask = _sized(shown(position), truth.labels[position], volume, tile)
        _, predicted_mask = _sized(shown(position), prediction.labels[position], volume, tile)
        where = _title(volume, position)
        tiles.append(_Tile("image" if volume.grid.shape[0] == 1 else f"image, {where}", plain))
        tiles.append(_Tile("truth", painted(plain, true_mask)))
        tiles.append(_Tile("prediction", painted(plain, predicted_mask)))
    entries = dict(_entries(prediction)) | dict(_entries(truth))
    _save(_sheet(tiles, 3, volume.name, sorted(entries.items())), path)


def matches_png(
    volume: Volume,
    labels: LabelMap,
    panels: Mapping[int, Sequence[Panel]],
    path: Path,
    intensity: Intensity | None = None,
    slices: int = 8,
    tile: int = 240,
) -> None:
    """Write a picture of one row a slice: the slice with its labels, and what belongs to it.

    Args:
        volume: the image.
        labels: on the grid of the image.
        panels: slice index to what is shown beside that slice.
        path: the PNG to write.
        intensity: as in `overlay_png`.
        slices: how many rows at most, evenly spaced over the labelled range.
        tile: the longer side of one picture in pixels.

    Raises:
        GeometryMismatch: image and labels differ in shape.
    """
    _same_shape(volume, labels)
    shown = _display(volume, intensity)
    chosen = chosen_slices(labels.labels, slices)
    columns = 1 + max(len(panels.get(position, ())) for position in chosen)
    nothing = _Tile("", np.full((1, 1, 3), PAPER, np.uint8))
    tiles = []
    for position in chosen:
        row = [
            _Tile(
                _title(volume, position),
                painted(*_sized(shown(position), labels.labels[position], volume, tile)),
            )
        ]
        for panel in panels.get(position, ()):
            size = _fitted(panel.labels.shape[0], panel.labels.shape[1], tile)
            plain = resized(to_bytes(panel.picture), size)
            row.append(_Tile(panel.title, painted(plain, resized(panel.labels, size, smooth=False))))
        tiles += row + [nothing] * (columns - len(row))
    _save(_sheet(tiles, columns, volume.name, _entries(labels)), path)


def chosen_slices(labels: NDArray[np.unsignedinteger], most: int) -> list[int]:
    """Positions of at most `most` slices, evenly spaced over the range that holds labels.

    The ends of the range hold next to nothing, so the slices lie at the middles of equal parts.
    """
    filled = np.flatnonzero(np.concatenate([block.any(axis=(1, 2)) for block in blocks(labels)]))
    first, last = (int(filled[0]), int(filled[-1])) if filled.size else (0, len(labels) - 1)
    count = min(most, last - first + 1)
    return [first + int((last - first + 1) * (part + 0.5) / count) for part in range(count)]


def _same_shape(volume: Volume, labels: LabelMap) -> None:
    if volume.grid.shape != labels.grid.shape:
        raise GeometryMismatch(
            f"{volume.name}: labels {labels.grid.shape} do not lie on the image {volume.grid.shape}"
        )


def _display(volume: Volume, intensity: Intensity | None) -> Callable[[int], Scaled]:
    """What gives a slice in 0..1."""
    if intensity is None:
        low = min(float(block.min()) for block in blocks(volume.voxels))
        high = max(float(block.max()) for block in blocks(volume.voxels))
        pictures = not volume.grid.in_mm and low >= 0 and 1 < high <= 255
        intensity = _AS_THEY_ARE if pictures else _BY_PERCENTILE
    bounds = intensity.bounds([volume.voxels])
    return lambda position: scaled(volume.voxels[position], *bounds)


def _sized(
    shown: Scaled, labels: NDArray[np.unsignedinteger], volume: Volume, tile: int
) -> tuple[Picture, NDArray[np.unsignedinteger]]:
    """A slice and its labels in true proportions, the longer side `tile` pixels."""
    _, h_mm, w_mm = volume.grid.spacing
    size = _fitted(shown.shape[0] * h_mm, shown.shape[1] * w_mm, tile)
    return resized(to_bytes(shown), size), resized(labels, size, smooth=False)


def _fitted(height: float, width: float, tile: int) -> tuple[int, int]:
    """Height and width in pixels, the longer one `tile`."""
    factor = tile / max(height, width)
    return max(round(height * factor), 16), max(round(width * factor), 16)


def _title(volume: Volume, position: int) -> str:
    depth = volume.grid.shape[0]
    if depth == 1:
        return "labels"
    return f"{'frame' if volume.axis == 't' else 'slice'} {position + 1} of {depth}"


def _entries(labels: LabelMap) -> list[tuple[int, str]]:
    present = {int(value) for value in np.flatnonzero(labels.counts().sum(axis=0))} - {0}
    names = labels.classes or {}
    return [(value, names.get(value, f"label {value}")) for value in sorted(present | set(names))]


def _sheet(tiles: list[_Tile], columns: int, name: str, entries: list[tuple[int, str]]) -> Image.Image:
    tall = max(tile.picture.shape[0] for tile in tiles)
    wide = max(tile.picture.shape[1] for tile in tiles)
    rows = -(-len(tiles) // columns)
    step_x, step_y = wide + _MARGIN, tall + _TITLE + _MARGIN
    width = max(columns * step_x + _MARGIN, _NARROWEST)
    head = _TITLE + 2 * _MARGIN
    key = legend(entries, width, _TEXT)
    sheet = Image.new("RGB", (width, head + rows * step_y + key.height + _MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, head // 2), name, fill=INK, font=text_font(20), anchor="lm")
    for index, tile in enumerate(tiles):
        left = _MARGIN + index % columns * step_x
        top = head + index // columns * step_y
        middle = (left, top + _TITLE // 2 - 2)
        draw.text(middle, tile.title, fill=INK, font=text_font(_TEXT), anchor="lm")
        sheet.paste(Image.fromarray(tile.picture), (left, top + _TITLE))
    sheet.paste(key, (0, head + rows * step_y))
    return sheet


def _save(sheet: Image.Image, path: Path) -> None:
    with replacing(path) as partial:
        sheet.save(partial, format="PNG", optimize=False)
