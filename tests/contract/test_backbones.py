"""What every backbone promises to methods: shapes, one result per object, and the same one twice."""

import pytest
import torch

from fakes import FakeBackbone
from unprompted.backbones import shipped
from unprompted.backbones.base import MemoryBank, Prompt, Recall
from unprompted.loading import load_backbone


def builtin(request):
    if shipped.folder() is None:
        pytest.skip("no weights are built in yet")
    return load_backbone("builtin", device="cpu")


def random_sam2(request):
    return load_backbone(str(request.getfixturevalue("tiny_model_folder")), device="cpu")


@pytest.fixture(
    scope="module", params=[builtin, random_sam2, lambda _: FakeBackbone()], ids=["builtin", "sam2", "fake"]
)
def backbone(request, single_thread):
    return request.param(request)


@pytest.fixture(autouse=True)
def _without_gradient():
    with torch.no_grad():
        yield


@pytest.fixture
def features(backbone):
    return backbone.encode(make_frames(backbone, 1))[0]


def make_frames(backbone, count):
    return torch.rand(count, 3, *[backbone.input_size] * 2, generator=torch.Generator().manual_seed(0))


def make_masks(backbone, objects):
    """Object k is a square in column k of the frame."""
    side = backbone.input_size
    masks = torch.zeros(objects, side, side)
    for k in range(objects):
        masks[k, side // 4 : side // 2, k * side // 4 : (k + 1) * side // 4] = 1
    return masks


def remembered(backbone, features, objects):
    return backbone.remember(features, backbone.adopt(features, make_masks(backbone, objects)))


def tensors_of(record):
    return [v for v in vars(record).values() if isinstance(v, torch.Tensor)]


def test_encoding_gives_three_levels_a_frame(backbone):
    side, channels = backbone.input_size, backbone.channels
    first, second = backbone.encode(make_frames(backbone, 2))
    for features in (first, second):
        fine, middle, coarse = features.levels
        assert fine.shape == (1, channels // 8, side // 4, side // 4)
        assert middle.shape == (1, channels // 4, side // 8, side // 8)
        assert coarse.shape == features.position.shape == (1, channels, side // 16, side // 16)
        assert features.pooled.shape == (channels,)
    assert not torch.equal(first.levels[2], second.levels[2])


def test_a_frame_is_encoded_the_same_alone_and_among_others(backbone):
    frames = make_frames(backbone, 3)
    alone, among = backbone.encode(frames[1:2])[0], backbone.encode(frames)[1]
    for a, b in zip(alone.levels, among.levels, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("objects", [1, 3])
def test_the_verbs_give_one_result_an_object(backbone, features, objects):
    side, grid = backbone.input_size, backbone.input_size // 16
    entry = remembered(backbone, features, objects)
    assert entry.tokens.shape == (grid * grid, objects, backbone.memory_width)
    assert entry.pointer.shape == (objects, backbone.channels)

    bank = MemoryBank((entry, entry)).remembering(0, entry)
    fused = backbone.attend(features, bank.recall(1, 0, 1), objects)
    assert fused.shape == (objects, backbone.channels, grid, grid)

    for decoded in (
        backbone.decode(fused, features),
        backbone.adopt(features, make_masks(backbone, objects)),
    ):
        assert decoded.logits.shape == decoded.raw.shape == (objects, 1, side // 4, side // 4)
        assert decoded.logits_full.shape == (objects, 1, side, side)
        assert decoded.quality.shape == (objects,)
        assert decoded.presence.shape == (objects, 1)
        assert decoded.pointer.shape == (objects, backbone.channels)
        assert all(torch.isfinite(t).all() for t in tensors_of(decoded))


def test_given_masks_are_told_from_predicted_ones(backbone, features):
    adopted = backbone.adopt(features, make_masks(backbone, 2))
    assert adopted.given
    assert torch.equal(adopted.logits_full[:, 0] > 0, make_masks(backbone, 2) > 0)
    assert adopted.quality.tolist() == [1, 1]
    fused = backbone.attend(features, Recall(), 2)
    assert not backbone.decode(fused, features).given


def test_an_empty_mask_is_an_absent_object(backbone, features):
    masks = make_masks(backbone, 2)
    masks[1] = 0
    presence = backbone.adopt(features, masks).presence[:, 0]
    assert presence[0] > 0 > presence[1]


def test_an_absent_object_is_predicted_nowhere(backbone, features):
    decoded = backbone.decode(
        backbone.attend(features, MemoryBank((remembered(backbone, features, 3),)).recall(0, 0, 1), 3),
        features,
    )
    absent = decoded.presence[:, 0] <= 0
    assert (decoded.logits[absent] < -1000).all()
    assert torch.equal(decoded.logits[~absent], decoded.raw[~absent])


def test_attending_works_without_any_memory(backbone, features):
    fused = backbone.attend(features, Recall(), 2)
    assert fused.shape[0] == 2
    assert torch.equal(fused[0], fused[1])


def test_objects_do_not_influence_each_other(backbone, features):
    together = remembered(backbone, features, 3)
    recall = MemoryBank((together,)).recall(0, 0, 1)
    whole = backbone.decode(backbone.attend(features, recall, 3), features)
    for k in range(3):
        only = MemoryBank((together.of(torch.tensor([k])),)).recall(0, 0, 1)
        alone = backbone.decode(backbone.attend(features, only, 1), features)
        torch.testing.assert_close(alone.raw[0], whole.raw[k], atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(alone.presence[0], whole.presence[k], atol=1e-3, rtol=1e-3)


def test_the_order_of_support_changes_nothing_beyond_rounding(backbone):
    one, two = backbone.encode(make_frames(backbone, 2))
    entries = (remembered(backbone, one, 2), remembered(backbone, two, 2))
    forth = backbone.attend(one, MemoryBank(entries).recall(0, 0, 1), 2)
    back = backbone.attend(one, MemoryBank(entries[::-1]).recall(0, 0, 1), 2)
    torch.testing.assert_close(forth, back, atol=1e-4, rtol=1e-4)


def test_the_same_calls_give_the_same_bytes(backbone):
    def run():
        features = backbone.encode(make_frames(backbone, 1))[0]
        recall = MemoryBank((remembered(backbone, features, 2),)).recall(0, 0, 1)
        return tensors_of(backbone.decode(backbone.attend(features, recall, 2), features))

    assert all(torch.equal(a, b) for a, b in zip(run(), run(), strict=True))


@pytest.mark.parametrize(
    "kind",
    ["boxes", "mask_logits"],
)
def test_prompts_of_two_objects_are_taken(backbone, features, kind):
    side = backbone.input_size
    boxes = torch.tensor([[0.0, 0, side / 2, side / 2], [side / 2, 0, side - 1, side / 2]])
    given = {"boxes": boxes, "mask_logits": torch.zeros(2, 1, side // 4, side // 4)}
    fused = backbone.attend(features, Recall(), 2)
    decoded = backbone.decode(fused, features, Prompt(**{kind: given[kind]}))
    assert decoded.logits.shape == (2, 1, side // 4, side // 4)


def test_masks_can_be_learned_through_the_decoder(backbone, features):
    with torch.enable_grad():
        fused = backbone.attend(features, MemoryBank((remembered(backbone, features, 2),)).recall(0, 0, 1), 2)
        fused = fused.detach().requires_grad_()
        backbone.decode(fused, features).raw.sum().backward()
    assert float(fused.grad.abs().max()) > 0


def test_the_digest_tells_weights_apart(backbone):
    assert len(backbone.digest) == 64
    assert backbone.digest == backbone.digest
    assert FakeBackbone(seed=1).digest != FakeBackbone(seed=2).digest


def test_the_backbone_says_what_and_where_it_is(backbone):
    assert backbone.name
    assert backbone.device == torch.device("cpu")
    assert backbone.input_size % 16 == 0
