import torch

from unprompted.refinement.reading import Reading


def frame(side):
    return torch.rand(1, 5, side, side, generator=torch.Generator().manual_seed(0))


def masks(side):
    return torch.randn(2, 1, side, side, generator=torch.Generator().manual_seed(1))


def test_whatever_is_finer_than_the_side_asks_for_is_averaged():
    pixels, logits = frame(512), masks(128)
    reading = Reading.of(pixels, logits, side=256)
    assert [part.shape[-1] for part in (reading.pixels, reading.logits)] == [256, 64]
    torch.testing.assert_close(reading.pixels[0, 0, 0, 0], pixels[0, 0, :2, :2].mean())
    torch.testing.assert_close(reading.logits[0, 0, 0, 0], logits[0, 0, :2, :2].mean())


def test_masks_beyond_certainty_are_cut_off():
    reading = Reading.of(frame(64), torch.full((2, 1, 16, 16), -1024.0), side=64)
    assert bool((reading.logits == -8).all())


def test_a_crop_shows_the_same_place_in_every_part():
    pixels, logits = frame(128), masks(32)
    crop = Reading.of(pixels, logits, side=128).crop(32, 16, 64)
    assert torch.equal(crop.pixels, pixels[..., 32:96, 16:80])
    assert torch.equal(crop.logits, logits.transpose(0, 1)[..., 8:24, 4:20])
