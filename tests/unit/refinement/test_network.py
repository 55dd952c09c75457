import pytest
import torch
import torch.nn.functional as F

from unprompted.backbones.base import Features
from unprompted.refinement.network import Reading, Refiner

SIDE, GRID, OBJECTS = 128, 32, 2


def frame(side=SIDE, seed=0, pixels=True):
    source = torch.Generator().manual_seed(seed)
    sizes = ((4, side // 4), (8, side // 8), (16, side // 16))
    fine, middle, coarse = (torch.randn(1, c, s, s, generator=source) for c, s in sizes)
    shown = torch.rand(1, 3, side, side, generator=source) if pixels else None
    return Features((fine, middle, coarse), coarse, shown)


def masks(side=GRID, seed=1):
    drawn = torch.randn(OBJECTS, 1, side, side, generator=torch.Generator().manual_seed(seed))
    return (3 * drawn).clamp(-8, 8)


@pytest.fixture
def refiner():
    torch.manual_seed(0)
    return Refiner((4, 8, 16), OBJECTS, width=8, grid=64).eval()


def trained(refiner):
    torch.nn.init.normal_(refiner.last.weight)
    return refiner


def test_an_untrained_refiner_enlarges_masks_and_changes_nothing_else(refiner):
    given = masks()
    expected = F.interpolate(given, (64, 64), mode="bilinear", align_corners=False)
    torch.testing.assert_close(refiner.refined(frame(), given), expected)


def test_a_trained_refiner_reads_pixels_features_and_masks(refiner):
    trained(refiner)
    found = refiner.refined(frame(), masks())
    assert found.shape == (OBJECTS, 1, 64, 64)
    seen = frame()
    for changed in (
        Features(seen.levels, seen.position, 1 - seen.pixels),
        *(
            Features(
                tuple(-v if i == n else v for i, v in enumerate(seen.levels)), seen.position, seen.pixels
            )
            for n in range(3)
        ),
    ):
        assert not torch.allclose(refiner.refined(changed, masks()), found, atol=1e-3)
    assert not torch.allclose(refiner.refined(frame(), -masks()), found, atol=1e-3)


def test_features_finer_than_the_grid_are_averaged():
    reading = Reading.of(frame(side=512), masks(side=128), grid=64)
    assert [t.shape[-1] for t in (reading.fine, reading.middle, reading.coarse)] == [64, 32, 16]
    assert (reading.pixels.shape[-1], reading.logits.shape[-1]) == (256, 64)
    seen = frame(side=512).levels[0]
    torch.testing.assert_close(reading.fine[0, 0, 0, 0], seen[0, 0, :2, :2].mean())


def test_masks_beyond_certainty_are_cut_off():
    reading = Reading.of(frame(), torch.full((OBJECTS, 1, GRID, GRID), -1024.0), grid=64)
    assert bool((reading.logits == -8).all())


def test_a_frame_without_pixels_is_read_as_dark(refiner):
    bare = frame(pixels=False)
    dark = Features(bare.levels, bare.position, torch.zeros(1, 3, SIDE, SIDE))
    trained(refiner)
    assert torch.equal(refiner.refined(bare, masks()), refiner.refined(dark, masks()))


def test_a_crop_shows_the_same_place_at_every_level():
    reading = Reading.of(frame(), masks(), grid=64).crop(8, 4, 16)
    assert torch.equal(reading.fine, frame().levels[0][..., 8:24, 4:20])
    assert torch.equal(reading.middle, frame().levels[1][..., 4:12, 2:10])
    assert torch.equal(reading.coarse, frame().levels[2][..., 2:6, 1:5])
    assert torch.equal(reading.pixels, frame().pixels[..., 32:96, 16:80])


def test_standardised_channels_have_mean_0_and_deviation_1(refiner):
    reading = Reading.stacked([Reading.of(frame(seed=n), masks(), 64) for n in range(3)])
    refiner.standardise(reading)
    channel = (reading.middle[:, 5] - refiner.mean[4 + 5]) / refiner.deviation[4 + 5]
    assert float(channel.mean()) == pytest.approx(0, abs=1e-5)
    assert float(channel.std()) == pytest.approx(1, abs=1e-4)


def test_a_restored_refiner_draws_the_same(refiner):
    trained(refiner)
    again = Refiner.restored(refiner.state_dict())
    assert torch.equal(again.refined(frame(), masks()), refiner.refined(frame(), masks()))
    assert not any(p.requires_grad for p in again.parameters())


def test_tensors_of_something_else_are_refused(refiner):
    with pytest.raises(KeyError):
        Refiner.restored({"filters": torch.zeros(1)})
    with pytest.raises(RuntimeError):
        Refiner.restored(refiner.state_dict() | {"draw.weight": torch.zeros(1)})
