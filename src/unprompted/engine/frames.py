"""From arrays to what the model sees, and the exact way back."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from unprompted.backbones.base import Backbone, Features
from unprompted.intensity import Intensity, Scaled
from unprompted.methods.base import SupportFrames
from unprompted.support import SupportSet

_CHUNK = 8  # frames encoded at once
_KEPT_BYTES = 1 << 30  # encoded frames kept per case; further ones are encoded again when needed


def to_frames(slices: NDArray[np.float32], size: int) -> Tensor:
    """Resize slices to the model's square input, the whole slice filling it (as SAM2 does).

    Args:
        slices: ``(T, H, W)`` or ``(T, H, W, 3)`` in 0..1.
        size: S.

    Returns:
        ``(T, 3, S, S)`` float32 in 0..1.
    """
    pixels = torch.from_numpy(np.ascontiguousarray(slices, dtype=np.float32))
    pixels = pixels.unsqueeze(1) if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2)
    shrinks = max(slices.shape[1:3]) > size
    resized = F.interpolate(pixels, (size, size), mode="bilinear", align_corners=False, antialias=shrinks)
    return resized.clamp(0, 1).expand(-1, 3, -1, -1)


def to_label_frame(labels: NDArray[np.integer], values: Sequence[int], size: int) -> Tensor:
    """Resize one label slice ``(H, W)`` to ``(S, S)`` int16 object numbers 1..K.

    Every class is resized softly and the strongest one wins, so that borders stay smooth; 0 is
    background, and so are labels that are not asked for.
    """
    source = torch.from_numpy(labels.astype(np.int64))
    number = torch.zeros_like(source)
    for k, value in enumerate(values, start=1):
        number[source == value] = k
    present = torch.unique(number)
    soft = torch.stack([(number == k).float() for k in present]).unsqueeze(0)
    shrinks = max(labels.shape) > size
    soft = F.interpolate(soft, (size, size), mode="bilinear", align_corners=False, antialias=shrinks)
    return present[soft[0].argmax(dim=0)].to(torch.int16)


@dataclass(frozen=True, eq=False)
class LabelledSlices:
    """The labelled slices of one case, scaled.

    Attributes:
        images: ``(H, W)`` or ``(H, W, 3)`` each, in 0..1.
        labels: ``(H, W)`` integers each.
        positions: slice index of each in its case.
    """

    images: Sequence[Scaled]
    labels: Sequence[NDArray[Any]]
    positions: Sequence[int]


def scaled_cases(support: SupportSet, intensity: Intensity) -> list[LabelledSlices]:
    """The support case by case, each scaled by its own intensities."""
    cases = []
    for case in support.cases:
        examples = [e for e in support.examples if e.case == case]
        window = next((e.window for e in examples if e.window), None)
        scaled = intensity.apply_case([e.image for e in examples], window)
        cases.append(LabelledSlices(scaled, [e.labels for e in examples], [e.position for e in examples]))
    return cases


def labelled_frames(cases: Sequence[LabelledSlices], values: Sequence[int], size: int) -> SupportFrames:
    """Labelled slices at the model's input size; object k is the k-th of the label values."""
    pixels, labels = [], []
    numbers: list[int] = []
    positions: list[int] = []
    for index, case in enumerate(cases):
        for image, label in zip(case.images, case.labels, strict=True):
            pixels.append(to_frames(image[None], size)[0])
            labels.append(to_label_frame(label, values, size))
        numbers += [index] * len(case.positions)
        positions += case.positions
    return SupportFrames(
        torch.stack(pixels), torch.stack(labels), len(values), tuple(numbers), tuple(positions)
    )


def support_frames(support: SupportSet, intensity: Intensity, size: int) -> SupportFrames:
    """The support at the model's input size, each case scaled by its own intensities."""
    return labelled_frames(scaled_cases(support, intensity), list(support.classes), size)


class EncodedFrames:
    """Features of a volume's frames, encoded in chunks and kept while they fit.

    Args:
        backbone: encodes.
        slices: the query, ``(T, H, W)`` or ``(T, H, W, 3)`` in 0..1.
    """

    def __init__(self, backbone: Backbone, slices: Scaled) -> None:
        self._backbone = backbone
        self._slices = slices
        self._chunks: OrderedDict[int, list[Features]] = OrderedDict()

    def __len__(self) -> int:
        return int(self._slices.shape[0])

    def __getitem__(self, frame: int) -> Features:
        return self._chunk(frame // _CHUNK)[frame % _CHUNK]

    def pooled(self) -> Tensor:
        """Descriptors of all frames, ``(T, C)``."""
        chunks = range((len(self) + _CHUNK - 1) // _CHUNK)
        return torch.stack([f.pooled for c in chunks for f in self._chunk(c)])

    def _chunk(self, number: int) -> list[Features]:
        if number in self._chunks:
            self._chunks.move_to_end(number)
            return self._chunks[number]
        slices = self._slices[number * _CHUNK : (number + 1) * _CHUNK]
        frames = to_frames(slices, self._backbone.input_size).to(self._backbone.device)
        encoded = self._backbone.encode(frames)
        self._chunks[number] = encoded
        size = sum(level.nbytes for f in encoded for level in f.levels)
        while len(self._chunks) > max(2, _KEPT_BYTES // size):
            self._chunks.popitem(last=False)
        return encoded
