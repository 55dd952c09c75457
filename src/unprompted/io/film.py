"""Frames of a film or of a folder, decoded when they are asked for: a long video is never held as a whole."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from unprompted.errors import DataRefused, UnreadableFile
from unprompted.io.raster import Raster
from unprompted.slices import HELD_BYTES, OnDemand, Slices

Frame = NDArray[np.uint8]
_RASTER = Raster()


class _Decoder:
    """Decodes spans of one film file.

    A walk forwards decodes every frame once. A span further back starts at the key frame before it; the
    frames between that one and the span are kept while they fit, for the spans before it.

    Args:
        path: the film.
        times: presentation time of every frame, ascending; None where frames have none.
        keys: index of every key frame, ascending; the first is 0.
    """

    def __init__(self, path: Path, times: list[int] | None, keys: list[int]) -> None:
        self._path = path
        self._times = times
        self._keys = keys
        self._kept: dict[int, Frame] = {}
        self._walk: Iterator[tuple[int, Frame]] = iter(())
        self._next = 0

    def frames(self, start: int, stop: int) -> Frame:
        """Frames ``(n, H, W, 3)``."""
        if any(index not in self._kept for index in range(start, stop)):
            self._fill(start, stop)
        return np.stack([self._kept[index] for index in range(start, stop)])

    def _fill(self, start: int, stop: int) -> None:
        key = self._keys[bisect_right(self._keys, start) - 1]
        if not self._kept or not key <= self._next <= start:
            self._walk, self._kept = self._from(key), {}
        for index, frame in self._walk:
            self._kept[index], self._next = frame, index + 1
            first = min(self._kept)
            if index - first >= stop - start and len(self._kept) * frame.nbytes > HELD_BYTES:
                del self._kept[first]
            if index == stop - 1:
                break
        missing = [index for index in range(start, stop) if index not in self._kept]
        if missing:
            raise UnreadableFile(f"{self._path.name}: frame {missing[0]} cannot be decoded a second time")

    def _from(self, first: int) -> Iterator[tuple[int, Frame]]:
        """The index and pixels of every frame from a key frame on."""
        with av.open(str(self._path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            if self._times is None:
                yield from enumerate(_pixels(frame) for frame in container.decode(stream))
                return
            if first:
                container.seek(self._times[first], stream=stream)
            for frame in container.decode(stream):
                index = bisect_left(self._times, frame.pts or 0)
                if index >= first:  # a seek may end at an earlier key frame
                    yield index, _pixels(frame)


def film(path: Path) -> Slices:
    """The frames ``(T, H, W, 3)`` of a film: all of them where they are small, else on demand.

    Raises:
        UnreadableFile: the file holds no video, or is cut short.
    """
    held: list[Frame] | None = []
    times: list[int | None] = []
    keys: list[int] = []
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise UnreadableFile(f"{path.name}: the file holds no video; it is truncated or sound only")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for index, frame in enumerate(container.decode(stream)):
            times.append(frame.pts)
            if frame.key_frame:
                keys.append(index)
            height, width = frame.height, frame.width
            if held is not None:
                held.append(_pixels(frame))
                if len(held) * held[-1].nbytes * 4 > HELD_BYTES:  # bytes become float32
                    held = None
        promised, timed = stream.frames, container.format.name != "avi"  # whose times shift after a seek
    if not times:
        raise UnreadableFile(f"{path.name}: no frame can be decoded; the file is truncated or empty")
    if len(times) < promised - 1:  # edit lists may hide one
        raise UnreadableFile(
            f"{path.name}: only {len(times)} of {promised} frames can be decoded; the file is truncated"
        )
    if held is not None:
        return np.stack(held).astype(np.float32)
    known = [time for time in times if time is not None]
    told = timed and known == sorted(set(known)) and len(known) == len(times) and keys[:1] == [0]
    decoder = _Decoder(path, known, keys) if told else _Decoder(path, None, [0])
    return OnDemand((len(times), height, width, 3), np.dtype(np.uint8), decoder.frames)


def frames_of_folder(files: Sequence[Path], folder: Path) -> Slices:
    """Pictures as frames ``(T, H, W)``, or ``(T, H, W, 3)`` where one is in colour.

    Raises:
        DataRefused: they differ in size, one has several pages, or holds a value that is no number.
    """
    sizes: set[tuple[int, ...]] = set()
    stacks: list[str] = []
    held: list[NDArray[np.float32]] = []
    colour, size = False, 0
    for file in files:
        frame = _RASTER.read(file).whole
        if len(frame) > 1:
            stacks.append(file.name)
        sizes.add(frame.shape[1:3])
        colour |= frame.ndim == 4
        size += frame.nbytes
        held = [*held, frame] if size <= HELD_BYTES else []
    if stacks:
        raise DataRefused(f"{folder}: a frame is one picture, but {listed(stacks)} holds several pages")
    if len(sizes) > 1:
        raise DataRefused(
            f"{folder}: the frames of a video have one size, found {sorted(sizes)}; give pictures that do "
            "not belong together as a folder of images"
        )
    if held:
        return np.concatenate([_coloured(frame) if colour else frame for frame in held])

    def read(start: int, stop: int) -> NDArray[Any]:
        frames = [_RASTER.read(file).whole for file in files[start:stop]]
        return np.concatenate([_coloured(frame) if colour else frame for frame in frames])

    shape = (len(files), *next(iter(sizes)), *((3,) if colour else ()))
    return OnDemand(shape, np.dtype(np.float32), read)


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _pixels(frame: av.VideoFrame) -> Frame:
    pixels: Frame = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    return pixels


def _coloured(frame: NDArray[np.float32]) -> NDArray[np.float32]:
    return frame if frame.ndim == 4 else np.repeat(frame[..., None], 3, axis=-1)
