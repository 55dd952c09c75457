import torch

from unprompted.backbones.base import Features
from unprompted.refinement.reading import Reading


def frame(side):
    source = torch.Generator().manual_seed(0)
    levels = tuple(
        torch.randn(1, c, side // s, side // s, generator=source) for c, s in ((4, 4), (8, 8), (16, 16))
    )
    return Features(levels, levels[2]), torch.rand(1, 5, side, side, generator=source)


def masks(side):
    return torch.randn(2, 1, side, side, generator=torch.Generator().manual_seed(1))


def test_whatever_is_finer_than_the_side_asks_for_is_averaged():
    features, pixels = frame(512)
    reading = Reading.of(features, pixels, masks(128), side=256)
    parts = (reading.pixels, reading.fine, reading.middle, reading.coarse, reading.logits)
    assert [part.shape[-1] for part in parts] == [256, 64, 32, 16, 64]
    torch.testing.assert_close(reading.fine[0, 0, 0, 0], features.levels[0][0, 0, :2, :2].mean())


def test_masks_beyond_certainty_are_cut_off():
    reading = Reading.of(*frame(64), torch.full((2, 1, 16, 16), -1024.0), side=64)
    assert bool((reading.logits == -8).all())


def test_a_crop_shows_the_same_place_in_every_part():
    features, pixels = frame(128)
    logits = masks(32)
    crop = Reading.of(features, pixels, logits, side=128).crop(32, 16, 64)
    assert torch.equal(crop.pixels, pixels[..., 32:96, 16:80])
    assert torch.equal(crop.fine, features.levels[0][..., 8:24, 4:20])
    assert torch.equal(crop.middle, features.levels[1][..., 4:12, 2:10])
    assert torch.equal(crop.coarse, features.levels[2][..., 2:6, 1:5])
    assert torch.equal(crop.logits, logits.transpose(0, 1)[..., 8:24, 4:20])
