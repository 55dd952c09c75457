"""The labels of the support case that fits a query best after registration: an atlas, in one word."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK

from unprompted.errors import UsageError
from unprompted.images import LabelMap, Volume
from unprompted.peers.base import Cases, Progress, TrainedPeer, label_map, only_classes

_FEW = 20_000  # samples below which the metric looks at every voxel
_SMALLEST = 4  # voxels an axis needs for a registration to have a gradient


@dataclass(frozen=True)
class Registration:
    """SimpleITK: a shift, then affine, by correlation; labels by nearest neighbour.

    Attributes:
        sampled: share of voxels that the metric looks at in a large image.
        iterations: most, at each of up to three resolutions.
    """

    sampled: float = 0.2
    iterations: int = 100

    def fit(self, cases: Cases, classes: dict[int, str], seed: int, progress: Progress) -> TrainedPeer:
        """Keep the support; there is nothing to train.

        Raises:
            UsageError: the support holds a video.
        """
        atlases = [(_grey(volume), _itk(only_classes(m.labels, classes), volume)) for volume, m in cases]

        def segment(volume: Volume) -> LabelMap:
            fixed = _grey(volume)
            tried = [(*self._affine(fixed, moving, seed), n) for n, (moving, _) in enumerate(atlases)]
            _, transform, best = min(tried, key=lambda found: (found[0], found[2]))
            labels = atlases[best][1]
            warped = SimpleITK.Resample(labels, fixed, transform, SimpleITK.sitkNearestNeighbor, 0)
            numbers = SimpleITK.GetArrayFromImage(warped).reshape(volume.grid.shape)
            return label_map(numbers, volume, classes)

        return TrainedPeer(segment, {"atlases": len(atlases)})

    def _affine(self, fixed: SimpleITK.Image, moving: SimpleITK.Image, seed: int) -> tuple[float, Any]:
        """The metric (smaller is better) and the transform: shifted first, then affine."""
        size = fixed.GetDimension()
        middle = SimpleITK.CenteredTransformInitializer(
            fixed,
            moving,
            SimpleITK.AffineTransform(size),
            SimpleITK.CenteredTransformInitializerFilter.GEOMETRY,
        )
        affine = SimpleITK.AffineTransform(SimpleITK.Transform(middle).Downcast())
        try:
            shift = self._found(fixed, moving, SimpleITK.TranslationTransform(size), middle, seed)[1]
            affine.SetTranslation(np.add(affine.GetTranslation(), shift.GetParameters()).tolist())
            return self._found(fixed, moving, affine, None, seed)
        except RuntimeError:  # the transform ran away from the image: the worst fit there is
            return math.inf, affine

    def _found(
        self, fixed: SimpleITK.Image, moving: SimpleITK.Image, start: Any, before: Any, seed: int
    ) -> tuple[float, Any]:
        method = self._method(fixed, seed)
        if before is not None:
            method.SetMovingInitialTransform(before)
        method.SetInitialTransform(start, inPlace=True)
        method.Execute(fixed, moving)
        return float(method.GetMetricValue()), start

    def _method(self, fixed: SimpleITK.Image, seed: int) -> Any:
        """Coarse to fine, as far as the shortest axis leaves enough voxels."""
        levels = [level for level in (2, 1, 0) if min(fixed.GetSize()) >> level >= _SMALLEST]
        method = SimpleITK.ImageRegistrationMethod()
        method.SetMetricAsCorrelation()  # support and query are of one modality
        if fixed.GetNumberOfPixels() * self.sampled > _FEW:
            method.SetMetricSamplingStrategy(method.RANDOM)
            method.SetMetricSamplingPercentage(self.sampled, seed + 1)  # 0 would mean the time of day
        step = min(fixed.GetSpacing())
        # Steps of fixed length, halved at every turn: others run away where structures first meet.
        method.SetOptimizerAsRegularStepGradientDescent(
            2 * step, 0.01 * step, self.iterations, gradientMagnitudeTolerance=1e-8
        )
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetShrinkFactorsPerLevel([2**level for level in levels])
        method.SetSmoothingSigmasPerLevel(levels)
        method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
        method.SetInterpolator(SimpleITK.sitkLinear)
        method.SetNumberOfThreads(1)  # several threads add up in another order each time
        return method


def _grey(volume: Volume) -> SimpleITK.Image:
    if volume.axis == "t":
        raise UsageError(f"{volume.name}: registration takes volumes and pictures, not videos")
    voxels = volume.whole.mean(axis=-1) if volume.is_rgb else volume.whole
    return _itk(voxels.astype(np.float32), volume)


def _itk(voxels: Any, volume: Volume) -> SimpleITK.Image:
    """An ITK image in our own world; pictures and very thin stacks are flat for want of a gradient."""
    array = voxels.astype(np.int32) if np.issubdtype(voxels.dtype, np.integer) else voxels
    if volume.grid.shape[0] == 1:
        image = SimpleITK.GetImageFromArray(array[0])
        image.SetSpacing(volume.grid.spacing[:0:-1])
        return image
    if min(volume.grid.shape) < _SMALLEST:
        raise UsageError(f"{volume.name}: registration needs {_SMALLEST} slices, found {volume.grid.shape}")
    image = SimpleITK.GetImageFromArray(array)
    affine, spacing = volume.grid.affine, np.array(volume.grid.spacing)
    image.SetSpacing(spacing[::-1].tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / spacing)[:, ::-1].ravel().tolist())
    return image
