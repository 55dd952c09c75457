"""One colour per class index, the same in every file; the first seven suit colour-blind readers."""

import colorsys

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]

# Okabe and Ito, "Color Universal Design" (2008), without black; then six that keep away from them
# in lightness rather than in hue alone, for abdominal CT has thirteen organs.
_NAMED: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (204, 121, 167),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (160, 40, 90),
    (170, 220, 90),
    (150, 120, 255),
    (235, 60, 220),
    (145, 90, 40),
    (255, 190, 200),
    (100, 60, 200),
)
_GOLDEN_ANGLE = 0.61803398875  # hue steps that never repeat and never come close soon


def colour_of(index: int) -> Colour:
    """The RGB colour of a class index, 0 to 255 each; 0 is background and black."""
    if index <= 0:
        return (0, 0, 0)
    if index <= len(_NAMED):
        return _NAMED[index - 1]
    extra = index - len(_NAMED)
    hue = (0.05 + extra * _GOLDEN_ANGLE) % 1.0
    lightness = (0.40, 0.60, 0.75)[extra % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.65)
    return round(red * 255), round(green * 255), round(blue * 255)


def hex_of(index: int) -> str:
    """The colour of a class index as ``#rrggbb``."""
    return "#{:02x}{:02x}{:02x}".format(*colour_of(index))


def colour_table(size: int) -> NDArray[np.uint8]:
    """``(size, 3)`` colours of the indices 0 to size-1."""
    return np.array([colour_of(index) for index in range(size)], dtype=np.uint8).reshape(size, 3)
