"""A support, a query and what ofl-sam2 learns of them; modules with their own say so."""

import pytest
import torch

from builders import make_subject
from fakes import FakeBackbone
from ofl import QUICK, silent
from unprompted.engine.frames import support_frames
from unprompted.intensity import Intensity
from unprompted.support import SupportSet


@pytest.fixture(scope="module")
def support(single_thread):
    cases = SupportSet.from_cases([make_subject((5, 64, 64), classes=2, seed=seed) for seed in range(2)])
    return support_frames(cases, Intensity.decide(cases), 64)


@pytest.fixture(scope="module")
def query(single_thread):
    volume, _ = make_subject((4, 64, 64), classes=2, seed=9)
    pixels = torch.from_numpy(volume.voxels / 255).unsqueeze(1).expand(-1, 3, -1, -1)
    return FakeBackbone().encode(pixels)


@pytest.fixture(scope="module")
def learned(support):
    return QUICK.train(FakeBackbone(), support, 0, silent)
