import pytest
import torch

from unprompted.backbones.base import Features
from unprompted.refinement.network import Refiner
from unprompted.refinement.reading import Reading

SIDE, OBJECTS, CHANNELS = 64, 2, (4, 8, 16)


def frame(seed=0):
    source = torch.Generator().manual_seed(seed)
    levels = tuple(
        torch.randn(1, c, SIDE // s, SIDE // s, generator=source)
        for c, s in zip(CHANNELS, (4, 8, 16), strict=True)
    )
    return Features(levels, levels[2]), torch.rand(1, 5, SIDE, SIDE, generator=source)


def masks(seed=1):
    return 3 * torch.randn(OBJECTS, 1, SIDE // 4, SIDE // 4, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def refiner():
    torch.manual_seed(0)
    return Refiner(CHANNELS, OBJECTS, width=16, side=SIDE).eval()


def changed_parts():
    features, pixels = frame()
    yield features, 1 - pixels, masks()
    yield features, pixels, -masks()
    for n in range(3):
        levels = tuple(-v if i == n else v for i, v in enumerate(features.levels))
        yield Features(levels, features.position), pixels, masks()


def test_masks_come_out_at_the_side_that_is_worked_on(refiner):
    assert refiner.refined(*frame(), masks()).shape == (OBJECTS, 1, SIDE, SIDE)


@pytest.mark.parametrize("part", range(5), ids=["pixels", "masks", "fine", "middle", "coarse"])
def test_every_part_that_is_read_matters(refiner, part):
    expected = refiner.refined(*frame(), masks())
    assert not torch.allclose(refiner.refined(*list(changed_parts())[part]), expected, atol=1e-4)


@pytest.mark.parametrize("part", range(1, 5), ids=["masks", "fine", "middle", "coarse"])
def test_frames_that_are_not_aided_show_pixels_and_place_alone(refiner, part):
    alone = torch.tensor([False])
    place = torch.zeros(1, 2, SIDE, SIDE)
    given = [Reading.of(f, p, m, SIDE) for f, p, m in (next(changed_parts()), list(changed_parts())[part])]
    given[0] = Reading.of(*frame(), masks(), SIDE)
    with torch.no_grad():
        expected, found = (refiner(reading, place, alone) for reading in given)
    assert torch.equal(found, expected)


def test_chances_are_the_mean_of_aided_and_not_weighed_by_aid(refiner):
    reading = Reading.of(*frame(), masks(), SIDE)
    aided = refiner.drawn(reading)
    refiner.aid.fill_(0.25)
    both = refiner.drawn(reading)
    refiner.aid.fill_(0.0)
    unaided = refiner.drawn(reading)
    line = torch.linspace(-1, 1, SIDE)
    place = torch.stack(torch.meshgrid(line, line, indexing="ij"))[None]
    with torch.no_grad():
        alone = refiner(reading, place, torch.tensor([False]))

    def chances(logits):
        return torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1).softmax(dim=1)

    assert torch.equal(unaided, alone)
    expected = 0.25 * chances(aided) + 0.75 * chances(alone)
    torch.testing.assert_close(chances(both), expected, atol=1e-5, rtol=1e-4)


def test_standardised_channels_have_mean_0_and_deviation_1(refiner):
    reading = Reading.stacked([Reading.of(*frame(seed), masks(), SIDE) for seed in range(3)])
    refiner.standardise(reading)
    channel = (reading.middle[:, 5] - refiner.mean[4 + 5]) / refiner.deviation[4 + 5]
    assert float(channel.mean()) == pytest.approx(0, abs=1e-5)
    assert float(channel.std()) == pytest.approx(1, abs=1e-4)


def test_a_restored_refiner_draws_the_same(refiner):
    refiner.aid.fill_(0.5)
    again = Refiner.restored(refiner.state_dict())
    assert torch.equal(again.refined(*frame(), masks()), refiner.refined(*frame(), masks()))
    assert not any(p.requires_grad for p in again.parameters())


def test_tensors_of_something_else_are_refused(refiner):
    with pytest.raises(KeyError):
        Refiner.restored({"filters": torch.zeros(1)})
    with pytest.raises(RuntimeError):
        Refiner.restored(refiner.state_dict() | {"stem.bias": torch.zeros(1)})
