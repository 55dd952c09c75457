"""A random SAM2 that trains in moments, and an easy support to adapt it to."""

from dataclasses import replace

import torch

from builders import make_subject
from unprompted.backbones.sam2 import Sam2Backbone
from unprompted.backbones.tiny import TinyShape, random_model
from unprompted.engine.frames import support_frames
from unprompted.intensity import Intensity
from unprompted.support import SupportSet


def make_backbone(input_size=128, channels=64):
    shape = TinyShape(
        input_size,
        widths=(8, 16, 24, 32),
        blocks=(1, 1, 1, 1),
        channels=channels,
        memory_layers=1,
        decoder_mlp=64,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = random_model(shape).eval().requires_grad_(False)
    return Sam2Backbone(model, "small")


def make_support(cases=3, slices=2, size=128):
    """One bright square a class and slice; a case moves both squares a little."""
    patients = [make_subject((slices, 64, 64), classes=2, seed=seed) for seed in range(cases)]
    support = SupportSet.from_cases(patients)
    return support_frames(support, Intensity.decide(support), size)


def without(support, pairs):
    """The support with some classes of some cases erased: pairs of case and object number."""
    labels = support.labels.clone()
    for n, case in enumerate(support.cases):
        for erased_case, number in pairs:
            if case == erased_case:
                labels[n][labels[n] == number] = 0
    return replace(support, labels=labels)
