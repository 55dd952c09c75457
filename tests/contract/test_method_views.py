"""What every view promises with every registered method."""

from dataclasses import fields

import pytest

from builders import dice, make_subject
from fakes import FakeBackbone
from unprompted.engine.views import Views
from unprompted.loading import make_method
from unprompted.registry import METHODS
from unprompted.segmenter import FittedSegmenter, Segmenter

CHEAP = {"epochs": 1, "steps_per_epoch": 1, "sequence": 1, "augmented": 2, "training": False}
ROUND = {"spacing_mm": (2, 1, 1), "shape": (16, 32, 32)}


@pytest.fixture(params=sorted(METHODS))
def method(request, single_thread):
    known = {f.name for f in fields(METHODS.load(request.param))}
    return make_method(request.param, {name: value for name, value in CHEAP.items() if name in known})


@pytest.mark.parametrize("views", ["flips,histogram", "neighbours,zoom,body,rest,near", "axes"])
def test_a_task_with_views_finds_its_support_again_and_is_saved(method, views, tmp_path):
    volume, labels = make_subject(**ROUND)
    fitted = Segmenter(method, FakeBackbone(), Views.named(views)).fit([(volume, labels)])
    prediction = fitted.segment(volume)
    assert prediction.labels.grid.same_space(volume.grid)
    assert dice(prediction.labels.labels, labels.labels) > 0.5
    assert 0 <= prediction.quality.min() <= prediction.quality.max() <= 1
    fitted.save(tmp_path)
    again = FittedSegmenter.load(tmp_path, FakeBackbone()).segment(volume)
    assert again.confidence.tobytes() == prediction.confidence.tobytes()
    assert again.labels.labels.tobytes() == prediction.labels.labels.tobytes()
