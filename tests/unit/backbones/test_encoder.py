import torch

from small import make_backbone


def levels_of_transformers(backbone, frames):
    """Levels ``(T, c, h, w)`` by transformers' own encoder, and the place code of the coarsest."""
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 1, 3, 1, 1)
    found = backbone.model.get_image_features((frames - mean) / std, return_dict=True)
    sides = [backbone.input_size // s for s in (4, 8, 16)]
    maps = [
        level.permute(1, 2, 0).unflatten(2, (side, side))
        for level, side in zip(found.fpn_hidden_states, sides, strict=True)
    ]
    place = found.fpn_position_encoding[-1][:, :1].permute(1, 2, 0).unflatten(2, (sides[-1],) * 2)
    return maps, place


def make_frames(count=2, size=128):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))


def test_the_encoder_gives_what_that_of_transformers_gives(single_thread):
    backbone, frames = make_backbone(), make_frames()
    with torch.no_grad():
        expected, place = levels_of_transformers(backbone, frames)
        found = backbone.encode(frames)
    for t, features in enumerate(found):
        for level, whole in zip(features.levels, expected, strict=True):
            torch.testing.assert_close(level, whole[t : t + 1], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(features.position, place)


def test_gradients_pass_through_the_encoder_as_through_that_of_transformers(single_thread):
    backbone, frames = make_backbone(), make_frames()
    weight = backbone.model.vision_encoder.backbone.blocks[0].attn.qkv.weight.requires_grad_()
    gradients = []
    for run in (
        lambda: [torch.cat([f.levels[2] for f in backbone.encode(frames)])],
        lambda: levels_of_transformers(backbone, frames)[0][2:],
    ):
        weight.grad = None
        run()[0].square().mean().backward()
        gradients.append(weight.grad)
    assert float(gradients[1].abs().max()) > 0
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-6, rtol=1e-3)
