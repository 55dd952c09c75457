"""From arrays to what the model sees, and the exact way back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from unprompted.backbones.base import Backbone, Features
from unprompted.engine.limits import DEFAULT_LIMITS, Limits
from unprompted.intensity import Intensity, Scaled
from unprompted.methods.base import SupportFrames
from unprompted.support import SupportSet


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


def with_brightness(frame: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Colours of a frame ``(1, 3, S, S)``, then brightness of its neighbours: ``(1, 5, S, S)``."""
    return torch.cat([frame, *(n.mean(dim=1, keepdim=True) for n in (before, after))], dim=1)


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


def labelled_frames(
    cases: Sequence[LabelledSlices], values: Sequence[int], size: int, patients: Sequence[str] = ()
) -> SupportFrames:
    """Labelled slices at the model's input size; object k is the k-th of the label values.

    Args:
        cases: labelled slices of each.
        values: label values.
        size: S.
        patients: whom each case shows; empty where every case is a patient of its own.
    """
    pixels, labels = [], []
    numbers: list[int] = []
    positions: list[int] = []
    for index, case in enumerate(cases):
        for image, label in zip(case.images, case.labels, strict=True):
            pixels.append(to_frames(image[None], size)[0])
            labels.append(to_label_frame(label, values, size))
        numbers += [index] * len(case.positions)
        positions += case.positions
    names = sorted(set(patients))
    return SupportFrames(
        torch.stack(pixels),
        torch.stack(labels),
        len(values),
        tuple(numbers),
        tuple(positions),
        patients=tuple(names.index(patients[n]) for n in numbers) if len(names) < len(patients) else (),
    )


def support_frames(support: SupportSet, intensity: Intensity, size: int) -> SupportFrames:
    """The support at the model's input size, each case scaled by its own intensities."""
    whom = [support.patients[case] for case in support.cases]
    return labelled_frames(scaled_cases(support, intensity), list(support.classes), size, whom)


class Stack(Protocol):
    """Slices in 0..1 that come a few at a time: an array is one."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Scaled: ...


class EncodedFrames:
    """Features of a volume's frames, encoded in chunks. The first ones are kept as far as they fit.

    A sweep that starts anywhere needs every frame at most twice, first in order; so no choice of what to
    keep saves more than keeping what came first and letting it be.

    Args:
        backbone: encodes.
        slices: the query, ``(T, H, W)`` or ``(T, H, W, 3)`` in 0..1.
        limits: how many frames at once, and how many are kept.
    """

    def __init__(self, backbone: Backbone, slices: Stack, limits: Limits = DEFAULT_LIMITS) -> None:
        self._backbone = backbone
        self._slices = slices
        self._limits = limits
        self._kept: dict[int, list[Features]] = {}
        self._free = limits.kept_bytes
        self._last: dict[int, list[Features]] = {}  # the chunk in use

    def __len__(self) -> int:
        return len(self._slices)

    def __getitem__(self, frame: int) -> Features:
        chunk, row = divmod(frame, self._limits.frames)
        return self._chunk(chunk)[row]

    def shown(self, frame: int) -> Tensor:
        """A frame as the model sees it, with the brightness of its neighbours: ``(1, 5, S, S)`` in 0..1."""
        first = max(0, frame - 1)
        around = to_frames(self._slices[first : frame + 2], self._backbone.input_size)
        around = around.to(self._backbone.device)
        here = frame - first
        return with_brightness(around[[here]], around[:1], around[-1:])

    def pooled(self) -> Tensor:
        """Descriptors of all frames, ``(T, C)``."""
        chunks = range(-(-len(self) // self._limits.frames))
        return torch.stack([f.pooled for c in chunks for f in self._chunk(c)])

    def _chunk(self, number: int) -> list[Features]:
        found = self._kept.get(number) or self._last.get(number)
        if found is None:
            self._last = {}  # before the next one takes memory
            found = self._encoded(number)
            size = sum(tensor.nbytes for f in found for tensor in (*f.levels, f.pixels) if tensor is not None)
            if size <= self._free:
                self._kept[number] = found
                self._free -= size
            else:
                self._last = {number: found}
        return found

    def _encoded(self, number: int) -> list[Features]:
        first = number * self._limits.frames
        slices = self._slices[first : first + self._limits.frames]
        frames = to_frames(slices, self._backbone.input_size).to(self._backbone.device)
        return self._backbone.encode(frames)
