"""Videos: mp4, avi, mov and mkv files through PyAV, and folders of frames."""

import re
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from unprompted.errors import GeometryMismatch, LabelRefused, UnreadableFile
from unprompted.geometry import Grid
from unprompted.images import LabelMap, Volume
from unprompted.io.atomic import replacing
from unprompted.io.base import FOLDER, case_name
from unprompted.io.film import film, frames_of_folder, listed
from unprompted.io.labels import sized_labels
from unprompted.io.paint import painted, to_bytes
from unprompted.io.raster import Raster, label_picture
from unprompted.slices import block_ranges, blocks, release, room_for

_FRAME_RATE = 10  # of the overlay, where the frames are single files
_RASTER = Raster()


class Video:
    """Reads a video as frames and writes a folder of masks with an overlay film beside it."""

    suffixes = (".mp4", ".avi", ".mov", ".mkv", FOLDER)
    holds_labels = False

    def read(self, path: Path) -> Volume:
        """``(T, H, W, 3)``, or ``(T, H, W)`` for a folder of grey frames; files are always RGB."""
        if path.is_dir():
            frames = frames_of_folder(frame_files(path), path)
            name = path.parent.name if path.name == "frames" else path.name
        else:
            frames, name = film(path), case_name(path)
        t, h, w = frames.shape[:3]
        return Volume(frames, Grid.without_mm((t, h, w)), axis="t", name=name)

    def read_labels(self, path: Path) -> LabelMap:
        """The masks of a folder, one a frame; `read_some_labels` where some frames have none.

        Raises:
            LabelRefused: the path is a video file.
        """
        if not path.is_dir():
            raise LabelRefused(f"{path.name}: labels of a video are a folder of mask PNGs, not a video")
        return read_some_labels(path, [file.stem for file in frame_files(path)])

    def result_suffix(self, like: Path) -> str:
        """A folder."""
        return ""

    def write_labels(self, labels: LabelMap, path: Path, like: Path) -> None:
        """Write ``<path>/masks/*.png``, named as the frames, and the film ``<path>_overlay.mp4``.

        Raises:
            GeometryMismatch: labels and frames differ in number or size.
        """
        video = self.read(like)
        write_masks(labels, path, video, frame_names(like, len(video.voxels)), _rate_of(like))


def write_masks(
    labels: LabelMap, path: Path, video: Volume, names: Sequence[str], rate: Fraction = Fraction(_FRAME_RATE)
) -> None:
    """Write ``<path>/masks/*.png`` under the names of frames, and the film ``<path>_overlay.mp4``.

    Raises:
        GeometryMismatch: labels and frames differ in number or size.
    """
    if video.voxels.shape[:3] != labels.labels.shape:
        raise GeometryMismatch(
            f"labels are {labels.labels.shape}, the frames of {video.name} {video.voxels.shape[:3]}"
        )
    stored = sized_labels(labels)
    with replacing(path / "masks") as partial:
        partial.mkdir()
        each = (mask for block in blocks(stored) for mask in block)
        for name, mask in zip(names, each, strict=True):
            label_picture(mask).save(partial / f"{name}.png")
    with replacing(path.parent / f"{path.name}_overlay.mp4") as partial:
        write_film(partial, _overlays(video, labels), rate)


def frame_files(folder: Path) -> list[Path]:
    """The pictures of a folder in the order of the numbers in their names (2 before 10).

    Raises:
        UnreadableFile: the folder holds no picture, or two of one name.
    """
    files = [f for f in folder.iterdir() if not f.name.startswith(".") and _is_picture(f)]
    if not files:
        raise UnreadableFile(f"{folder}: the folder holds no frame ({', '.join(Raster.suffixes)})")
    stems = [file.stem for file in files]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise UnreadableFile(f"{folder}: several frames are called {', '.join(twice)}; keep one of each")
    return sorted(files, key=lambda file: natural_order(file.stem))


def frame_names(video: Path, count: int) -> list[str]:
    """Names of the masks of a video: those of its frame files, else ``00000`` and up."""
    if video.is_dir() and any(_is_picture(file) for file in video.iterdir()):
        return [f.stem for f in frame_files(video)]
    return [f"{t:05d}" for t in range(count)]


def natural_order(name: str) -> tuple[tuple[int, str], ...]:
    """A sorting key by which ``frame_2`` comes before ``frame_10``."""
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name))


def read_some_labels(folder: Path, frames: Sequence[str]) -> LabelMap:
    """Masks of some frames of a video; frames without one are zeros and marked as unlabelled.

    Args:
        folder: mask pictures named as their frames.
        frames: names of all frames in order.

    Raises:
        LabelRefused: a mask has no frame.
        GeometryMismatch: masks differ in size.
    """
    masks = {file.stem: file for file in frame_files(folder)}
    strangers = sorted(set(masks) - set(frames), key=natural_order)
    if strangers:
        raise LabelRefused(
            f"{folder.parent.name}: masks without a frame of that name: {listed(strangers)}; "
            "a mask is named as its frame"
        )
    found = {name: _RASTER.read_labels(file).labels[0] for name, file in masks.items()}
    shapes = sorted({mask.shape for mask in found.values()})
    if len(shapes) > 1:
        raise GeometryMismatch(f"{folder}: the masks of a video have one size, found {shapes}")
    wide = any(mask.dtype == np.uint16 for mask in found.values())
    empty = np.zeros(shapes[0], dtype=np.uint16 if wide else np.uint8)
    labels = room_for((len(frames), *shapes[0]), empty.dtype)
    for number, name in enumerate(frames):
        if name in found:
            labels[number] = found[name]
    labelled = np.array([name in found for name in frames])
    grid = Grid.without_mm((len(frames), *shapes[0]))
    return LabelMap(labels, grid, labelled=None if labelled.all() else labelled)


def write_film(path: Path, frames: Iterator[NDArray[np.uint8]], rate: Fraction) -> None:
    """Write ``(H, W, 3)`` frames as mp4: H.264 where this build of ffmpeg has it, else MPEG-4.

    Odd sizes lose their last row or column, which these codecs cannot hold.
    """
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream: Any = container.add_stream(codec, rate=rate)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # several threads would make other bytes
        for position, pixels in enumerate(frames):
            even = pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2]
            if position == 0:
                stream.height, stream.width = even.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _overlays(video: Volume, labels: LabelMap) -> Iterator[NDArray[np.uint8]]:
    low, high = 0.0, 255.0
    if video.voxels.dtype != np.uint8:
        ends = [(float(block.min()), float(block.max())) for block in blocks(video.voxels)]
        least, most = min(end[0] for end in ends), max(end[1] for end in ends)
        low, high = (least, most) if least < 0 or most > 255 else (low, high)
    for start, stop in block_ranges(video.voxels.shape, np.float32):
        frames = np.asarray(video.voxels[start:stop], np.float32)
        for frame, mask in zip(frames, labels.labels[start:stop], strict=True):
            yield painted(to_bytes((frame - low) / max(high - low, 1e-6)), mask)
        release(labels.labels)


def _is_picture(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in Raster.suffixes


def _rate_of(video: Path) -> Fraction:
    if video.is_dir():
        return Fraction(_FRAME_RATE)
    with av.open(str(video)) as container:
        rate = container.streams.video[0].average_rate
    return Fraction(rate).limit_denominator(1001) if rate else Fraction(_FRAME_RATE)
