"""Colouring label maps into pictures: fills, contours and legends, with pillow."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from unprompted.palette import colour_of, colour_table

Picture = NDArray[np.uint8]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

INK = (235, 235, 235)
PAPER = (18, 18, 20)


def to_bytes(scaled: NDArray[np.floating]) -> Picture:
    """``(H, W, 3)`` bytes of a grey or colour picture scaled to 0..1."""
    pixels = np.round(np.clip(scaled, 0, 1) * 255).astype(np.uint8)
    return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=-1)


def painted(picture: Picture, labels: NDArray[np.integer], fill: float = 0.38) -> Picture:
    """A picture with labels on it: a contour in full colour, the inside half transparent.

    Args:
        picture: ``(H, W, 3)``.
        labels: ``(H, W)`` of the same size.
        fill: opacity of the inside, 0..1.
    """
    colours = colour_table(int(labels.max(initial=0)) + 1)[labels].astype(np.float32)
    opacity = np.where(contour(labels), 1.0, fill) * (labels > 0)
    mixed = picture + opacity[..., None] * (colours - picture)
    result: Picture = np.round(mixed).astype(np.uint8)
    return result


def contour(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Labelled pixels with a neighbour of another label, above, below, left or right."""
    framed = np.pad(labels, 1)
    inside = framed[1:-1, 1:-1]
    neighbours = (framed[:-2, 1:-1], framed[2:, 1:-1], framed[1:-1, :-2], framed[1:-1, 2:])
    edge: NDArray[np.bool_] = (inside > 0) & np.any([inside != n for n in neighbours], axis=0)
    return edge


def resized(picture: Picture, size: tuple[int, int], smooth: bool = True) -> Picture:
    """A ``(H, W, 3)`` picture or ``(H, W)`` labels at another (height, width)."""
    how = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
    return np.asarray(Image.fromarray(picture).resize((size[1], size[0]), how), dtype=picture.dtype)


def text_font(size: int) -> Font:
    """Pillow's own font at a size in pixels, so that pictures are equal on every machine."""
    return ImageFont.load_default(size)


def legend(entries: Sequence[tuple[int, str]], width: int, size: int = 16) -> Image.Image:
    """A strip of colour swatches with class names, wrapped to a width in pixels."""
    font = text_font(size)
    line, gap = int(size * 1.7), size
    placed: list[tuple[int, int, int, str]] = []
    x, y = gap, gap // 2
    for value, name in entries:
        needed = size + size // 2 + int(font.getlength(name)) + gap
        if x > gap and x + needed > width:
            x, y = gap, y + line
        placed.append((x, y, value, name))
        x += needed
    strip = Image.new("RGB", (width, y + line if entries else 0), PAPER)
    draw = ImageDraw.Draw(strip)
    for left, top, value, name in placed:
        draw.rounded_rectangle((left, top + 2, left + size, top + 2 + size), 3, fill=colour_of(value))
        draw.text((left + size + size // 2, top + 2 + size // 2), name, fill=INK, font=font, anchor="lm")
    return strip
