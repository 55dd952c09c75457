"""How stored intensities become 0..1: decided once from the support, applied to every query."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from unprompted.errors import DataRefused, UsageError
from unprompted.ranks import quantiles
from unprompted.slices import Slices, blocks
from unprompted.support import Example, SupportSet

Voxels = NDArray[np.floating[Any]]
Scaled = NDArray[np.float32]
Kind = Literal["ct", "percentile", "rgb"]

# Display windows of radiology, in Hounsfield units, narrowest first.
CT_WINDOWS: dict[str, tuple[float, float]] = {
    "soft tissue": (-160.0, 240.0),
    "lung": (-1350.0, 150.0),
    "bone": (-450.0, 1050.0),
    "wide": (-1024.0, 3071.0),
}
_AIR_HU = -100.0  # below this lies no MR and no 8-bit image, but always the 1st percentile of a CT
_CT_COVER = (5.0, 95.0)
_CLIP = (0.5, 99.5)


@dataclass(frozen=True)
class Intensity:
    """One rule from stored values to 0..1.

    Attributes:
        kind: "ct" (a fixed window), "percentile" (each case by its own percentiles) or "rgb"
            (colour and 8-bit pictures as they are).
        low: what becomes 0: Hounsfield units, a percentile, or 0.
        high: what becomes 1: Hounsfield units, a percentile, or the largest stored value.
    """

    kind: Kind
    low: float
    high: float

    def __post_init__(self) -> None:
        if self.kind not in ("ct", "percentile", "rgb"):
            raise UsageError(f"intensity kind {self.kind!r} is unknown; use ct, percentile or rgb")
        if not self.low < self.high:
            raise UsageError(f"an intensity range grows, got {self.low:g} to {self.high:g}")

    @classmethod
    def decide(cls, support: SupportSet) -> "Intensity":
        """The rule for a support set and all its queries.

        Colour pictures, and 8-bit pictures without physical spacing, stay as they are. A first
        percentile below -100 means Hounsfield units: the narrowest standard window that holds the
        5th to 95th percentile of the labelled voxels and the median of every class. (The outer
        percentiles are left out: gas in a stomach or one calcification would cost all soft tissue
        its contrast.) All else, MR and ultrasound volumes say, is scaled by percentiles.
        """
        examples = support.examples
        if any(example.image.ndim == 3 for example in examples):
            top = max(float(example.image.max()) for example in examples)
            return cls("rgb", 0.0, 255.0 if top <= 255 else 65535.0)
        if all(not example.in_mm and _is_8_bit(example.image) for example in examples):
            return cls("rgb", 0.0, 255.0)
        if np.percentile(np.concatenate([e.image.ravel() for e in examples]), 1) < _AIR_HU:
            return cls("ct", *CT_WINDOWS[_window(examples, sorted(support.classes))])
        return cls("percentile", *_CLIP)

    def apply(self, voxels: Voxels) -> Scaled:
        """The voxels of one whole case scaled to 0..1, float32, same shape.

        Raises:
            DataRefused: a picture is brighter than the pictures of the support can be.
        """
        return scaled(voxels, *self.bounds([voxels]))

    def apply_case(self, slices: Sequence[Voxels], window: tuple[float, float] | None = None) -> list[Scaled]:
        """Slices of one case, scaled together as `apply` would scale their volume.

        Args:
            slices: of one case.
            window: of a scaling by percentiles, where more is known of the case than these slices.
        """
        known = window if self.kind == "percentile" else None
        low, high = known or self.bounds(slices)
        return [scaled(one, low, high) for one in slices]

    def bounds(self, parts: Sequence[Slices]) -> tuple[float, float]:
        """What becomes 0 and 1 in one whole case, given in parts; they are never held at once.

        Raises:
            DataRefused: a picture is brighter than the pictures of the support can be.
        """
        if self.kind == "percentile":
            at = self.low / 100, self.high / 100
            low, high = quantiles(lambda: (b for part in parts for b in blocks(part)), at)
            return float(low), float(high)
        if self.kind == "rgb":
            top = max(largest(part) for part in parts)
            if top > self.high:
                raise DataRefused(
                    f"the support holds pictures of 0 to {self.high:g} but this image reaches {top:g}; "
                    "convert it to the same depth"
                )
        return self.low, self.high

    def as_dict(self) -> dict[str, Any]:
        """The rule as JSON types."""
        return {"kind": self.kind, "low": self.low, "high": self.high}

    @classmethod
    def from_dict(cls, entries: dict[str, Any]) -> "Intensity":
        """The rule `as_dict` wrote."""
        return cls(entries["kind"], float(entries["low"]), float(entries["high"]))

    def describe(self) -> str:
        """One line for people."""
        if self.kind == "ct":
            names = [name for name, window in CT_WINDOWS.items() if window == (self.low, self.high)]
            return f"CT window {names[0] if names else 'own'}, {self.low:g} to {self.high:g} HU"
        if self.kind == "percentile":
            return f"each case from its {self.low:g} to its {self.high:g} percentile"
        return f"as stored, {self.low:g} to {self.high:g}"


def scaled(voxels: Voxels, low: float, high: float) -> Scaled:
    """Voxels with `low` at 0 and `high` at 1, cut off there."""
    if high <= low:
        return np.zeros(voxels.shape, dtype=np.float32)
    found = (voxels.astype(np.float32) - np.float32(low)) / np.float32(high - low)
    return np.clip(found, 0.0, 1.0, out=found)


def largest(voxels: Slices) -> float:
    """The largest value; of bytes the largest there can be, without a look at them."""
    return 255.0 if voxels.dtype == np.uint8 else max(float(block.max()) for block in blocks(voxels))


def _is_8_bit(image: Voxels) -> bool:
    return bool(image.min() >= 0 and image.max() <= 255 and (np.round(image) == image).all())


def _window(examples: Sequence[Example], values: Sequence[int]) -> str:
    """The narrowest standard CT window that shows the labelled tissue."""
    by_class = [np.concatenate([e.image[e.labels == value] for e in examples]) for value in values]
    everything = np.concatenate(by_class)
    wanted = [float(np.median(part)) for part in by_class if part.size]
    wanted += [float(p) for p in np.percentile(everything, _CT_COVER)] if everything.size else []
    for name, (low, high) in CT_WINDOWS.items():
        if all(low <= value <= high for value in wanted):
            return name
    return "wide"
