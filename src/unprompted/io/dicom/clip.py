"""Clips stored as a film (MPEG-2, H.264, H.265) inside a DICOM file, decoded with PyAV."""

import io
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames

from unprompted.errors import UnreadableFile

_FILMS = tuple(f"1.2.840.10008.1.2.4.{number}" for number in range(100, 109))


def is_film(dataset: Dataset) -> bool:
    """Whether the pixels of a file are one film rather than frame by frame."""
    return any(str(dataset.file_meta.TransferSyntaxUID).startswith(film) for film in _FILMS)


def decoded_clip(dataset: Dataset, file: Path, count: int) -> NDArray[np.float32]:
    """``(frames, rows, columns, 3)`` RGB, 0 to 255.

    Raises:
        UnreadableFile: fewer frames can be decoded than the file says it has.
    """
    stream = io.BytesIO(next(generate_frames(dataset.PixelData, number_of_frames=1)))  # one film, in pieces
    with av.open(stream, "r") as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    if len(frames) < count:
        raise UnreadableFile(
            f"{file.name}: only {len(frames)} of {count} frames can be decoded; the file is truncated"
        )
    return np.stack(frames[:count]).astype(np.float32)
