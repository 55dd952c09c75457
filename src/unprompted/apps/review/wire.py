"""An image as the page gets it: 8 or 16 bits a voxel, slice by slice."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unprompted.images import Volume
from unprompted.intensity import CT_WINDOWS, Intensity

_STEPS = 65535
_PRESETS = {
    "abdomen": (-160.0, 240.0),
    "lung": (-1350.0, 150.0),
    "bone": (-450.0, 1050.0),
    "brain": (0.0, 80.0),
    "wide": CT_WINDOWS["wide"],
}
_SAMPLE = 200_000  # voxels that percentiles are taken from


@dataclass(frozen=True, eq=False)
class Wire:
    """Voxels for the page; the stored value is ``voxel * slope + offset``.

    Attributes:
        voxels: ``(D, H, W)`` int16 or uint8, or ``(D, H, W, 3)`` uint8.
        slope: stored units a step.
        offset: stored value of 0.
        windows: name to the stored values shown black and white, the first is shown at first.
        axis: "z" for slices, "t" for frames.
        spacing: distance between neighbours along ``(d, h, w)``.
        directions: anatomical directions of growing ``(d, h, w)``; empty where the file tells none.
    """

    voxels: NDArray[np.int16] | NDArray[np.uint8]
    slope: float
    offset: float
    windows: dict[str, tuple[float, float]]
    axis: str
    spacing: tuple[float, float, float]
    directions: str

    @classmethod
    def of(cls, volume: Volume, intensity: Intensity) -> "Wire":
        """What the page shows of a volume: integers as they are, all else in 65535 steps."""
        floats, grid = np.asarray(volume.voxels, np.float32), volume.grid
        low, high = float(floats.min()), float(floats.max())
        sample = floats.ravel()[:: max(1, floats.size // _SAMPLE)]
        whole = bool((np.rint(sample) == sample).all())
        slope, offset = 1.0, 0.0
        if whole and low >= 0 and high <= 255:
            voxels: NDArray[np.int16] | NDArray[np.uint8] = floats.astype(np.uint8)
        elif volume.is_rgb:
            voxels = np.clip(floats * (255 / max(high, 1e-6)), 0, 255).astype(np.uint8)
            slope = high / 255
        elif whole and low >= -32768 and high <= 32767:
            voxels = floats.astype(np.int16)
        else:
            slope = (high - low) / _STEPS or 1.0
            offset = low + 32768 * slope
            voxels = np.rint((floats - offset) / slope).astype(np.int16)
        directions = grid.directions if grid.in_mm and volume.axis == "z" else ""
        windows = _windows(volume, intensity, sample)
        return cls(voxels, slope, offset, windows, volume.axis, grid.spacing, directions)


def _windows(
    volume: Volume, intensity: Intensity, sample: NDArray[np.float32]
) -> dict[str, tuple[float, float]]:
    low, high = float(sample.min()), float(sample.max())
    if volume.is_rgb or intensity.kind == "rgb":
        return {"as stored": (0.0, 255.0 if high <= 255 else high)}
    if intensity.kind == "ct":
        model = (intensity.low, intensity.high)
        others = {name: window for name, window in _PRESETS.items() if window != model}
        return {"as the model": model, **others}
    outer = [float(p) for p in np.percentile(sample, (0.5, 99.5, 10, 99.9))]
    return {"as the model": (outer[0], outer[1]), "bright": (outer[2], outer[3]), "full range": (low, high)}
