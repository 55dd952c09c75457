from dataclasses import replace

import pytest
import torch

from fakes import FakeBackbone
from unprompted.backbones.base import Recall
from unprompted.engine.frames import EncodedFrames
from unprompted.engine.nearness import Near
from unprompted.engine.passes import following
from unprompted.engine.resting import PATIENCE, Resting
from unprompted.engine.sweep import sweep
from unprompted.engine.views import Views
from unprompted.methods.base import SupportFrames
from unprompted.methods.sam2_mask import Sam2Mask


class Asked(FakeBackbone):
    """Writes down where objects are looked for."""

    def __init__(self):
        super().__init__()
        self.places = []

    def attend(self, features, recall, objects):
        self.places.append(recall.places)
        return super().attend(features, recall, objects)


@pytest.fixture
def scene():
    backbone = Asked()
    features = backbone.encode(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))[0]
    masks = torch.zeros(2, 64, 64)
    masks[0, :16, :16] = 1  # one of 4 x 4 places, in the corner; the second object is nowhere
    return backbone, features, backbone.adopt(features, masks)


def test_before_the_first_frame_everything_is_looked_at(scene):
    backbone, features, _ = scene
    Near(backbone).attend(features, Recall(), 2)
    assert backbone.places == [None]


def test_a_class_is_looked_for_around_where_it_was_and_a_lost_one_everywhere(scene):
    backbone, features, shown = scene
    Near(backbone).after(shown).attend(features, Recall(), 2)
    corner = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]  # one place further, each way
    assert backbone.places[0][0].view(4, 4).int().tolist() == corner
    assert bool(backbone.places[0][1].all())


def test_a_mask_ends_where_it_is_not_looked_for(scene):
    backbone, features, shown = scene
    near = Near(backbone).after(shown)
    fused = near.attend(features, Recall(), 2)
    fused[:, 12:] = 1  # the object is everywhere
    decoded = near.decode(fused, features)
    inside = torch.zeros(64, 64, dtype=torch.bool)
    inside[:32, :32] = True
    assert torch.equal(decoded.logits_full[0, 0] > 0, inside)
    assert torch.equal(decoded.logits[0, 0] > 0, inside[::4, ::4])
    assert bool((decoded.logits_full[1] > 0).all())


def test_masks_of_some_objects_only_are_left_as_they_are(scene):
    backbone, features, shown = scene
    near = Near(backbone).after(shown)
    some = near.attend(features, Recall(), 2)[:1]
    some[:, 12:] = 1
    assert bool((near.decode(some, features).logits_full > 0).all())


def swept(backbone, seen, frames, labels):
    method = Sam2Mask(supports=1)
    fitted = method.prepare(backbone, SupportFrames(frames[:1], labels, 2, (0,), (0,)), {})
    return dict(sweep(method, seen, fitted, EncodedFrames(backbone, frames.permute(0, 2, 3, 1).numpy())))


def test_classes_that_fill_the_frame_are_found_as_without_it():
    backbone = FakeBackbone()
    frames = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    labels = torch.ones(1, 64, 64, dtype=torch.int16)
    labels[:, ::2] = 2
    plain, near = (swept(backbone, seen, frames, labels) for seen in (backbone, Near(backbone)))
    assert all(torch.equal(plain[t].decoded.logits, near[t].decoded.logits) for t in range(6))


def test_a_class_that_rests_is_left_out_of_what_is_looked_at_near_by(scene):
    backbone, features, shown = scene
    gone = replace(shown, presence=torch.tensor([[9.0], [-9.0]]))
    looking = Near(Resting(backbone))
    for _ in range(PATIENCE + 1):  # a look more, so that it is not its turn
        looking = looking.after(gone)
    fused = looking.attend(features, Recall(), 2)
    assert fused.shape[0] == 2
    assert [p.shape[0] for p in backbone.places] == [1]


@pytest.mark.parametrize(
    ("names", "kinds"), [("", [FakeBackbone]), ("near,rest", [Near, Resting, FakeBackbone])]
)
def test_views_put_together_what_follows_a_sweep(names, kinds):
    seen = following(Views.named(names), FakeBackbone())
    for kind in kinds:
        assert type(seen) is kind
        seen = getattr(seen, "whole", None)
