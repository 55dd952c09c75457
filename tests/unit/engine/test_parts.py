import pytest
import torch

from fakes import FakeBackbone
from small import make_backbone
from unprompted.backbones.base import MemoryBank, Prompt
from unprompted.engine.parts import InParts, in_parts


def filled(backbone, objects=5):
    """A bank and the features of a frame, for objects that lie side by side."""
    source = torch.Generator().manual_seed(0)
    size = backbone.input_size
    first, second = backbone.encode(torch.rand(2, 3, size, size, generator=source))
    masks = torch.zeros(objects, size, size)
    for k in range(objects):
        masks[k, :, k * size // objects : (k + 1) * size // objects] = 1
    entry = backbone.remember(first, backbone.adopt(first, masks))
    return MemoryBank((entry,)).remembering(0, entry), second, masks


def everything(backbone, bank, features, masks):
    fused = backbone.attend(features, bank.recall(1, 0, 1), len(masks))
    decoded = backbone.decode(fused, features)
    boxes = torch.tensor([[4.0, 4.0, 40.0, 40.0]]).repeat(len(masks), 1)
    prompted = backbone.decode(fused, features, Prompt(boxes=boxes))
    entry = backbone.remember(features, decoded)
    adopted = backbone.adopt(features, masks)
    found = [fused, entry.tokens, entry.pointer]
    for record in (decoded, prompted, adopted):
        found += [record.logits, record.logits_full, record.quality, record.presence, record.pointer]
    return found


@pytest.mark.parametrize("objects", [1, 2, 5, 9])
@pytest.mark.parametrize("make", [FakeBackbone, make_backbone])
@torch.no_grad()
def test_classes_in_parts_give_what_all_at_once_give(single_thread, make, objects):
    backbone = make()
    given = filled(backbone)
    whole, parts = everything(backbone, *given), everything(InParts(backbone, objects), *given)
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(other, one, atol=2e-4, rtol=1e-4)


def test_no_more_objects_than_allowed_are_ever_taken(single_thread):
    taken = []

    class Counting(FakeBackbone):
        def attend(self, features, recall, objects):
            taken.append(objects)
            return super().attend(features, recall, objects)

    backbone = Counting()
    everything(InParts(backbone, 2), *filled(backbone))
    assert taken == [2, 2, 1]


def test_without_a_limit_the_backbone_stays_itself():
    backbone = FakeBackbone()
    assert in_parts(backbone, None) is backbone
