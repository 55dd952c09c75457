"""Which part of a case is worth looking at: around its classes, or its body without the background."""

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unprompted.slices import Slices, blocks

Region = tuple[slice, slice, slice]  # along (d, h, w)
Size = tuple[float, float, float]  # voxels along (d, h, w)
Span = tuple[float, float]  # first index and one past the last

_CLASS_MARGIN = 0.25  # of the size of the classes, on each side
_BODY_MARGIN = 0.05
_BODY_SHARE = 0.99  # of what is not background: noise and the marks of a scanner lie far from it
_FOUND_SHARE = 0.9  # of what a first pass found: the rest may lie anywhere
_FOUND_GROWTH = 1.25  # a disc has nine tenths of its area within four fifths of its width
_LEAST_SHARE = 0.25  # of each side that a region keeps: a few voxels are not blown up to a frame
_MOST_SHARE = 0.8  # of a frame: a larger crop shows nothing new
_NO_SIZE = (0.0, 0.0, 0.0)
_BINS = 128
_SAMPLE = 1_000_000  # voxels that decide the threshold between background and body


def everything(shape: tuple[int, ...]) -> Region:
    """The region that holds all of a case."""
    return slice(0, shape[0]), slice(0, shape[1]), slice(0, shape[2])


def around(numbers: NDArray[np.integer[Any]]) -> Region | None:
    """The smallest region with everything in ``(D, H, W)`` that is not 0, None where nothing is."""
    if not numbers.any():
        return None
    d, h, w = (slice(int(start), int(stop)) for start, stop in _spans(numbers, lambda n: n != 0, 1.0))
    return d, h, w


def extent(mask: NDArray[np.bool_]) -> Size:
    """The size of what a mask ``(D, H, W)`` that is not empty shows."""
    d, h, w = (stop - start for start, stop in _spans(mask, lambda m: m, 1.0))
    return d, h, w


def around_found(numbers: NDArray[np.integer[Any]], least: Size) -> Region | None:
    """The region around what a first pass found, and a margin; None where it found nothing.

    Each class is found by itself: the shortest spans that hold most of its voxels, grown to what all of
    them would span.

    Args:
        numbers: ``(D, H, W)``, one number a class, 0 is background.
        least: the size expected from the support, in voxels along ``(d, h, w)``; found is seldom all.
    """
    values = sorted({int(value) for block in blocks(numbers) for value in np.unique(block)} - {0})
    classes = [_spans(numbers, partial(np.equal, value), _FOUND_SHARE) for value in values]
    grown = [[_grown(*span, _FOUND_GROWTH) for span in spans] for spans in classes]
    return _region(grown, numbers.shape, _CLASS_MARGIN, least) if grown else None


def union(region: Region, other: Region | None) -> Region:
    """The smallest region that holds both."""
    if other is None:
        return region
    parts = [slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(region, other, strict=True)]
    return parts[0], parts[1], parts[2]


def clearly_smaller(region: Region, outer: Region) -> bool:
    """Whether a region shows so much less of a slice than another one that a closer look is worth it."""
    return _area(region) <= _MOST_SHARE * _area(outer)


def body(stack: Slices) -> Region:
    """The region of a case that is not background, ``(D, H, W)`` or ``(D, H, W, 3)`` in 0..1.

    Background is what lies below Otsu's threshold (Otsu 1979), which parts voxels into two classes of
    largest variance between them.
    """
    threshold = _otsu(stack)
    counts = _profiles((_grey(block) > threshold for block in blocks(stack)), stack.shape)
    if not counts[0].any():
        return everything(stack.shape)
    return _region([_shortest(counts, _BODY_SHARE)], stack.shape[:3], _BODY_MARGIN, _NO_SIZE)


def _area(region: Region) -> int:
    return int((region[1].stop - region[1].start) * (region[2].stop - region[2].start))


def _spans(stack: Slices, asked: Callable[[Any], Any], share: float) -> list[Span]:
    """As `_shortest`, of the voxels that are asked for."""
    return _shortest(_profiles((asked(block) for block in blocks(stack)), stack.shape), share)


def _profiles(masks: Iterable[NDArray[np.bool_]], shape: tuple[int, ...]) -> list[NDArray[np.int64]]:
    """How many voxels of a mask lie at each index along ``(d, h, w)``; the mask comes slice by slice."""
    along_d, along_h, along_w = [], np.zeros(shape[1], np.int64), np.zeros(shape[2], np.int64)
    for mask in masks:
        along_d.append(mask.sum(axis=(1, 2)))
        along_h += mask.sum(axis=(0, 2))
        along_w += mask.sum(axis=(0, 1))
    return [np.concatenate(along_d), along_h, along_w]


def _shortest(profiles: Sequence[NDArray[np.int64]], share: float) -> list[Span]:
    """The shortest span along each axis that holds a share of a mask, the middle one of several."""
    spans: list[Span] = []
    for profile in profiles:
        below = np.concatenate([[0], np.cumsum(profile)])
        wanted = np.ceil(share * below[-1] - 1e-6)
        length = next(n for n in range(1, len(below)) if (below[n:] - below[:-n]).max() >= wanted)
        starts = np.flatnonzero(below[length:] - below[:-length] >= wanted)
        start = int(starts[len(starts) // 2])
        spans.append((start, start + length))
    return spans


def _grown(start: float, stop: float, factor: float) -> Span:
    more = (stop - start) * (factor - 1) / 2
    return start - more, stop + more


def _region(classes: Sequence[Sequence[Span]], shape: tuple[int, ...], margin: float, least: Size) -> Region:
    """What holds the spans of all classes, is no smaller than expected, and has a margin on each side."""
    parts = []
    for spans, length, size in zip(zip(*classes, strict=True), shape, least, strict=True):
        start, stop = min(span[0] for span in spans), max(span[1] for span in spans)
        wanted = max(max(stop - start, size) * (1 + 2 * margin), length * _LEAST_SHARE)
        whole = min(int(np.ceil(wanted)), length)
        first = int(np.floor((start + stop - whole) / 2))
        first = min(max(first, 0), length - whole)  # at an end of the axis it moves inwards
        parts.append(slice(first, first + whole))
    return parts[0], parts[1], parts[2]


def _grey(block: NDArray[np.float32]) -> NDArray[np.float32]:
    grey: NDArray[np.float32] = block if block.ndim == 3 else block.mean(axis=3)
    return grey


def _otsu(stack: Slices) -> float:
    step, seen = max(1, math.prod(stack.shape[:3]) // _SAMPLE), 0
    counts = np.zeros(_BINS, np.int64)
    for block in blocks(stack):
        values = _grey(block).ravel()
        found, edges = np.histogram(values[-seen % step :: step], _BINS, (0.0, 1.0))
        counts += found
        seen += values.size
    below, total = np.cumsum(counts)[:-1], counts.sum()
    sums = np.cumsum(counts * (edges[:-1] + edges[1:]) / 2)
    spread = (sums[-1] * below / total - sums[:-1]) ** 2
    sizes = below * (total - below)
    between = np.divide(spread, sizes, out=np.zeros_like(spread), where=sizes > 0)
    return float(edges[1:-1][between.argmax()])
