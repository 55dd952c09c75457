"""The labels of the support case that fits a query best after registration: an atlas, in one word."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK

from unprompted.errors import UsageError
from unprompted.images import LabelMap, Volume
from unprompted.peers.base import Cases, Progress, TrainedPeer, label_map, only_classes

_BINS = 32  # of the joint histogram
_SMALLEST = 4  # voxels an axis needs for a registration to have a gradient


@dataclass(frozen=True)
class Registration:
    """SimpleITK: affine by mutual information, then B-splines if asked; labels by nearest neighbour.

    Attributes:
        deformable: refine the best affine fit with B-splines.
        sampled: share of voxels that the metric looks at.
        iterations: most, at each of three resolutions.
        mesh: B-spline patches along every axis.
    """

    deformable: bool = False
    sampled: float = 0.2
    iterations: int = 100
    mesh: int = 4

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
            moving, labels = atlases[best]
            if self.deformable:
                transform = self._deformed(fixed, moving, transform, seed)
            warped = SimpleITK.Resample(labels, fixed, transform, SimpleITK.sitkNearestNeighbor, 0)
            numbers = SimpleITK.GetArrayFromImage(warped).reshape(volume.grid.shape)
            return label_map(numbers, volume, classes)

        return TrainedPeer(segment, {"atlases": len(atlases)})

    def _affine(self, fixed: SimpleITK.Image, moving: SimpleITK.Image, seed: int) -> tuple[float, Any]:
        """The metric (smaller is better) and the transform from the fixed to the moving image."""
        start = SimpleITK.CenteredTransformInitializer(
            fixed,
            moving,
            SimpleITK.AffineTransform(fixed.GetDimension()),
            SimpleITK.CenteredTransformInitializerFilter.GEOMETRY,
        )
        method = self._method(seed)
        method.SetInitialTransform(start, inPlace=False)
        found = method.Execute(fixed, moving)
        return float(method.GetMetricValue()), found

    def _deformed(self, fixed: SimpleITK.Image, moving: SimpleITK.Image, affine: Any, seed: int) -> Any:
        method = self._method(seed)
        method.SetMovingInitialTransform(affine)
        mesh = [self.mesh] * fixed.GetDimension()
        method.SetInitialTransform(SimpleITK.BSplineTransformInitializer(fixed, mesh), inPlace=False)
        return SimpleITK.CompositeTransform([affine, method.Execute(fixed, moving)])

    def _method(self, seed: int) -> Any:
        method = SimpleITK.ImageRegistrationMethod()
        method.SetMetricAsMattesMutualInformation(_BINS)
        method.SetMetricSamplingStrategy(method.REGULAR if self.sampled >= 1 else method.RANDOM)
        method.SetMetricSamplingPercentage(self.sampled, seed + 1)  # 0 would mean the time of day
        method.SetOptimizerAsGradientDescentLineSearch(1.0, self.iterations, 1e-4, 10)
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetShrinkFactorsPerLevel([4, 2, 1])
        method.SetSmoothingSigmasPerLevel([2, 1, 0])
        method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
        method.SetInterpolator(SimpleITK.sitkLinear)
        method.SetNumberOfThreads(1)  # several threads add up in another order each time
        return method


def _grey(volume: Volume) -> SimpleITK.Image:
    if volume.axis == "t":
        raise UsageError(f"{volume.name}: registration takes volumes and pictures, not videos")
    voxels = volume.voxels.mean(axis=-1) if volume.is_rgb else volume.voxels
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
