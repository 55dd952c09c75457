"""Small inputs for tests, built from what matters in the test; everything else has a plain default."""

import numpy as np

from unprompted.geometry import Grid
from unprompted.images import LabelMap, Volume
from unprompted.support import Example


def make_grid(shape, spacing_mm=None):
    return Grid.with_spacing(shape, spacing_mm) if spacing_mm else Grid.without_mm(shape)


def make_volume(shape=(4, 32, 32), spacing_mm=None, axis="z", name="case", seed=0, rgb=False):
    """Noise of the given shape, intensities of an 8-bit picture."""
    voxels = np.random.default_rng(seed).integers(0, 256, (*shape, 3) if rgb else shape)
    return Volume(voxels.astype(np.float32), make_grid(shape, spacing_mm), axis, name)


def make_labels(labels, spacing_mm=None, classes=None, labelled=None):
    labels = np.asarray(labels, np.uint8)
    return LabelMap(labels, make_grid(labels.shape, spacing_mm), classes or {}, labelled)


def make_subject(
    shape=(6, 64, 64), classes=1, seed=0, spacing_mm=None, axis="z", name=None, rgb=False, labelled=None
):
    """A volume with one bright box a class, drifting by a pixel a slice, and its labels.

    Class k is a 16-pixel box (on a 64-pixel slice) of intensity 100 + 50 k on a background of about 20;
    boxes lie beside each other, and a seed moves all of them a little.
    """
    depth, height, width = shape
    source = np.random.default_rng(seed)
    down, right = source.integers(-2, 3, 2)
    labels = np.zeros(shape, np.uint8)
    for d in range(depth):
        for k in range(classes):
            top = height // 4 + (height // 4) * (k // 2) + down + d % 3
            left = width // 8 + (width * 3 // 8) * (k % 2) + right
            labels[d, top : top + height // 4, left : left + width // 4] = k + 1
    voxels = np.where(labels > 0, 100 + 50.0 * labels, 20.0) + source.normal(0, 4, shape)
    voxels = np.clip(np.round(voxels), 0, 255).astype(np.float32)
    if rgb:
        voxels = np.stack([voxels, voxels / 2, 255 - voxels], axis=-1).round()
    name = name or f"subject-{seed}"
    names = {k + 1: f"organ {k + 1}" for k in range(classes)}
    volume = Volume(voxels, make_grid(shape, spacing_mm), axis, name)
    return volume, make_labels(labels, spacing_mm, names, labelled)


def make_example(image, labels, case="case", position=0):
    return Example(np.asarray(image, np.float32), np.asarray(labels, np.uint8), case, position)


def dice(predicted, true, value=1):
    """Dice of one label value; both empty is 1."""
    a, b = predicted == value, true == value
    return 1.0 if not (a.any() or b.any()) else float(2 * (a & b).sum() / (a.sum() + b.sum()))
