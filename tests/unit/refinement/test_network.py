import pytest
import torch

from unprompted.refinement.network import Refiner, expected_overlap
from unprompted.refinement.reading import Reading

SIDE, OBJECTS = 64, 2


def frame(seed=0):
    return torch.rand(1, 5, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def masks(seed=1):
    return 3 * torch.randn(OBJECTS, 1, SIDE // 4, SIDE // 4, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def refiner():
    torch.manual_seed(0)
    return Refiner(OBJECTS, width=16, side=SIDE).eval()


def place():
    line = torch.linspace(-1, 1, SIDE)
    return torch.stack(torch.meshgrid(line, line, indexing="ij"))[None]


def test_masks_come_out_at_the_side_that_is_worked_on(refiner):
    drawn, quality = refiner.refined(frame(), masks())
    assert (drawn.shape, quality.shape) == ((OBJECTS, 1, SIDE, SIDE), (OBJECTS,))


@pytest.mark.parametrize("part", [0, 1], ids=["pixels", "masks"])
def test_every_part_that_is_read_matters(refiner, part):
    expected, _ = refiner.refined(frame(), masks())
    changed = [(1 - frame(), masks()), (frame(), -masks())][part]
    assert not torch.allclose(refiner.refined(*changed)[0], expected, atol=1e-4)


def test_frames_that_are_not_aided_show_pixels_and_place_alone(refiner):
    alone = torch.tensor([False])
    given = [Reading.of(frame(), m, SIDE) for m in (masks(), -masks())]
    with torch.no_grad():
        expected, found = (refiner(reading, place(), alone) for reading in given)
    assert torch.equal(found, expected)


def test_chances_are_the_mean_of_those_with_and_without_masks(refiner):
    reading = Reading.of(frame(), masks(), SIDE)
    with torch.no_grad():
        aided, alone = (refiner(reading, place(), torch.tensor([told])) for told in (True, False))

    def chances(logits):
        return torch.cat([torch.zeros_like(logits[:, :1]), logits], dim=1).softmax(dim=1)

    expected = (chances(aided) + chances(alone)) / 2
    torch.testing.assert_close(chances(refiner.drawn(reading)), expected, atol=1e-5, rtol=1e-4)


def test_standardised_pixels_have_mean_0_and_deviation_1(refiner):
    reading = Reading.stacked([Reading.of(frame(seed), masks(), SIDE) for seed in range(3)])
    refiner.standardise(reading)
    pixels = (reading.pixels - refiner.mean) / refiner.deviation
    assert float(pixels.mean()) == pytest.approx(0, abs=1e-5)
    assert float(pixels.std()) == pytest.approx(1, abs=1e-4)


def test_a_restored_refiner_draws_the_same(refiner):
    refiner.trust.fill_(0.25)
    again = Refiner.restored(refiner.state_dict())
    for found, expected in zip(
        again.refined(frame(), masks()), refiner.refined(frame(), masks()), strict=True
    ):
        assert torch.equal(found, expected)
    assert not any(p.requires_grad for p in again.parameters())


def test_tensors_of_something_else_are_refused(refiner):
    with pytest.raises(KeyError):
        Refiner.restored({"filters": torch.zeros(1)})
    with pytest.raises(RuntimeError):
        Refiner.restored(refiner.state_dict() | {"stem.bias": torch.zeros(1)})


def test_the_overlap_to_expect_is_that_of_the_chances():
    # three pixels; chances of background, class 1 and class 2 in each
    chances = torch.tensor([[0.1, 0.8, 0.1], [0.2, 0.6, 0.2], [0.5, 0.3, 0.2]])
    logits = (chances[:, 1:] / chances[:, :1]).log().T.reshape(2, 1, 1, 3)
    # class 1 is found in two pixels, class 2 nowhere
    inside, union = expected_overlap(logits)
    torch.testing.assert_close(inside, torch.tensor([0.8 + 0.6, 0.0]))
    torch.testing.assert_close(union, torch.tensor([2 + 0.3, 0.1 + 0.2 + 0.2]))


def test_quality_is_the_iou_to_expect_times_trust(refiner):
    drawn, quality = refiner.refined(frame(), masks())
    inside, union = expected_overlap(drawn)
    torch.testing.assert_close(quality, inside / union)
    refiner.trust.copy_(torch.tensor([0.5, 1.0]))
    torch.testing.assert_close(refiner.refined(frame(), masks())[1], quality * torch.tensor([0.5, 1.0]))
