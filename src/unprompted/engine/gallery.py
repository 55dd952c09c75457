"""The support of a task as each of its worlds shows it; queries are shown the same way."""

import logging
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unprompted.engine.frames import LabelledSlices, labelled_frames, scaled_cases
from unprompted.engine.histogram import Landmarks, landmarks, matched, mean_landmarks
from unprompted.engine.regions import Region, Size, around, around_found, body, everything, extent, union
from unprompted.engine.shown import ScaledSlices, ShownSlices
from unprompted.engine.views import Look, Views, World, reslicable, with_neighbours
from unprompted.geometry import Grid
from unprompted.images import Volume
from unprompted.intensity import Intensity, Scaled, scaled
from unprompted.methods.base import SupportFrames
from unprompted.slices import Slices
from unprompted.support import SupportSet

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Gallery:
    """What a task learns from, and how it looks at cases.

    Attributes:
        support: the labelled examples.
        intensity: how stored values become 0..1.
        axis: slice axis of volumes, None for pictures and videos.
        views: what is switched on.
    """

    support: SupportSet
    intensity: Intensity
    axis: str | None
    views: Views

    @property
    def geometries(self) -> tuple[World, ...]:
        """The worlds a method learns in, the plain one first."""
        return self.views.geometries(self.axis)

    @property
    def worlds(self) -> tuple[World, ...]:
        """The worlds a method is prepared in."""
        return self.views.worlds(self.axis)

    def frames(self, world: World, size: int) -> SupportFrames:
        """The support as a world shows it, at the model's input size."""
        cases = scaled_cases(self.support, self.intensity)
        if self.views.names:
            cases = [self._shown(case, world) for case in cases]
        whom = [self.support.patients[case] for case in self.support.cases]
        return labelled_frames(cases, list(self.support.classes), size, whom)

    def scaled(self, volume: Volume) -> ScaledSlices:
        """The voxels of a query in 0..1, its brightness matched to the support where that is on."""
        bounds, wanted = self.intensity.bounds([volume.voxels]), self._brightness
        plain = ScaledSlices(volume.voxels, lambda voxels: scaled(voxels, *bounds))
        if wanted is None:
            return plain
        own = landmarks(plain)
        return ScaledSlices(volume.voxels, lambda voxels: matched(scaled(voxels, *bounds), own, wanted))

    def shown(self, stack: ScaledSlices, look: Look) -> ShownSlices:
        """A query as a look shows it, with its neighbours as the other channels where that is on."""
        return ShownSlices(stack, look, self._with_neighbours(stack))

    def region(self, stack: Slices) -> Region:
        """What is looked at of a scaled case ``(D, H, W)`` or ``(D, H, W, 3)`` before any zoom."""
        return body(stack) if self.views.body else everything(stack.shape)

    def expected_size(self, grid: Grid) -> Size:
        """The largest extent of the classes in any support case, in voxels of another grid.

        In millimetres where all cases and the grid have them, else relative to the frame.
        """
        in_mm = grid.in_mm and all(e.in_mm and e.spacing is not None for e in self.support.examples)
        sizes = [self._size(case, in_mm) for case in self.support.cases]
        d, h, w = np.max(sizes, axis=0) / (grid.spacing if in_mm else 1 / np.array(grid.shape))
        return float(d), float(h), float(w)

    def worlds_for(self, volume: Volume, zoomed: bool) -> list[World]:
        """The worlds that show a query, the plain direction last."""
        worlds = [world for world in self.worlds if world.zoomed == zoomed]
        grid = volume.grid
        if self.views.axes and not (volume.axis == "z" and reslicable(grid.shape, grid.spacing)):
            _LOG.warning(
                "%s is cut along one axis only: the view axes needs a volume of near-equal spacing and size",
                volume.name,
            )
            worlds = [world for world in worlds if world.axis is None]
        return sorted(worlds, key=lambda world: (world.axis is None, not world.mirrored))

    def _with_neighbours(self, stack: Slices) -> bool:
        return self.views.neighbours and stack.ndim == 3

    @cached_property
    def _brightness(self) -> Landmarks | None:
        if not self.views.histogram or self.intensity.kind != "percentile":
            return None
        cases = scaled_cases(self.support, self.intensity)
        return mean_landmarks([np.concatenate([image.ravel() for image in c.images]) for c in cases])

    def _shown(self, case: LabelledSlices, world: World) -> LabelledSlices:
        images, labels = np.stack(case.images), np.stack(case.labels)
        if self._brightness is not None:
            images = matched(images, landmarks(images), self._brightness)
        look = Look.into(world, self.axis, self._labelled_region(images, labels, world.zoomed))
        images, labels = look.of(images), np.ascontiguousarray(look.of(labels))
        positions = case.positions if world.axis is None else range(len(images))
        if self._with_neighbours(images):
            images = with_neighbours(images, positions)
        return LabelledSlices(list(images), list(labels), positions)

    def _size(self, case: str, in_mm: bool) -> NDArray[np.float64]:
        """Extent of the classes along ``(d, h, w)`` of a case, in millimetres or relative to its frame."""
        examples = [e for e in self.support.examples if e.case == case]
        first, masks = examples[0], [self._asked(e.labels) > 0 for e in examples]
        shown = [e.position for e, mask in zip(examples, masks, strict=True) if mask.any()]
        if not shown:
            return np.zeros(3)
        _, height, width = extent(np.stack(masks))
        whole = np.array([first.depth, *first.labels.shape])
        return np.array([shown[-1] - shown[0] + 1, height, width]) * (first.spacing if in_mm else 1 / whole)

    def _asked(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Labels of the classes asked for, 0 for all others."""
        return np.where(np.isin(labels, list(self.support.classes)), labels, 0)

    def _labelled_region(self, images: Scaled, labels: NDArray[Any], zoomed: bool) -> Region:
        """What is looked at of a support case: as of a query, but no class is ever cut away."""
        asked = self._asked(labels)
        found = around_found(asked, extent(asked > 0)) if zoomed and asked.any() else None
        return union(found or self.region(images), around(asked))
