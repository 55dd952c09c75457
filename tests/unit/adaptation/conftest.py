"""An easy support, and a small backbone adapted to it once for all tests."""

import pytest

from small import make_backbone, make_support
from unprompted.adaptation.adapt import adapt
from unprompted.adaptation.settings import Adaptation


@pytest.fixture(scope="session")
def easy():
    """Settings that learn the easy support within seconds."""
    return Adaptation(steps=20, learning_rate=3e-3, frames=2, classes=2, checks=2, judged=2)


@pytest.fixture(scope="session")
def support(single_thread):
    return make_support()


@pytest.fixture(scope="session")
def backbone(single_thread):
    return make_backbone()


@pytest.fixture(scope="session")
def adapted(backbone, support, easy):
    return adapt(backbone, support, easy, seed=0)
