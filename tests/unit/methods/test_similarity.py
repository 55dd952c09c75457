import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fakes import FakeBackbone
from unprompted.backbones.base import Features
from unprompted.errors import UsageError, WeightsUnavailable
from unprompted.methods import similarity as measures
from unprompted.methods.base import SupportFrames
from unprompted.methods.similarity import matched, similarity
from unprompted.methods.support_memory import SupportMemory

OWN = ("perceptual", "l1", "cosine", "ssim", "psnr")


def features(*levels, pixels=None):
    """Features of the given levels ``(C, h, w)``; one level stands for all three."""
    levels = [torch.as_tensor(level, dtype=torch.float32)[None] for level in levels] * (4 - len(levels))
    return Features(tuple(levels[:3]), levels[0], pixels)


def grey(value):
    return features([[[0.0]]], pixels=torch.as_tensor(value).expand(1, 3, 128, 128))


def score(measure, query, candidate):
    described = [measure.describe(one) for one in (query, candidate)]
    return float(measure.scores(described[0], described[1][None])[0])


def test_perceptual_distance_compares_directions_of_channels_level_by_level():
    query, other = features([[[3.0]], [[0.0]]]), features([[[0.0]], [[1.0]]])
    measure = similarity("perceptual")
    assert score(measure, query, other) == pytest.approx(-6)  # |(1, 0) - (0, 1)|^2 = 2 a level
    assert score(measure, query, features([[[7.0]], [[0.0]]])) == pytest.approx(0)


def test_perceptual_distance_is_a_mean_over_positions():
    query, other = features([[[1.0, 1.0]], [[0.0, 0.0]]]), features([[[1.0, 0.0]], [[0.0, 1.0]]])
    assert score(similarity("perceptual"), query, other) == pytest.approx(-3)


def test_l1_sums_channels_and_averages_positions_and_levels():
    query = features([[[1.0]]], [[[0.0, 0.0]], [[0.0, 0.0]]], [[[0.0]]])
    other = features([[[4.0]]], [[[1.0, 0.0]], [[2.0, 1.0]]], [[[1.0]]])
    # level 1: 3; level 2: (1 + 2 + 1) / 2 positions = 2; level 3: 1; mean 2
    assert score(similarity("l1"), query, other) == pytest.approx(-2)


def test_levels_are_averaged_to_the_grid():
    query, other = features([[[0.0, 4.0], [0.0, 0.0]]]), features([[[1.0, 1.0], [1.0, 1.0]]])
    assert score(similarity("l1", grid=1), query, other) == pytest.approx(0)
    assert score(similarity("l1", grid=0), query, other) == pytest.approx(-1.5)


def test_psnr_is_in_decibel():
    assert score(similarity("psnr"), grey(0.5), grey(0.6)) == pytest.approx(20, abs=1e-3)
    assert score(similarity("psnr"), grey(0.5), grey(0.5)) == pytest.approx(120)


def test_ssim_of_flat_frames_compares_their_brightness():
    expected = (2 * 0.5 * 0.25 + 1e-4) / (0.25 + 0.0625 + 1e-4)
    assert score(similarity("ssim"), grey(0.5), grey(0.25)) == pytest.approx(expected, abs=1e-4)
    assert score(similarity("ssim"), grey(0.5), grey(0.5)) == pytest.approx(1, abs=1e-4)


def test_ssim_of_a_frame_and_its_negative_is_below_zero():
    noise = torch.rand(1, 1, 128, 128, generator=torch.Generator().manual_seed(0)).expand(1, 3, -1, -1)
    assert score(similarity("ssim"), grey(noise), grey(noise)) == pytest.approx(1, abs=1e-4)
    assert score(similarity("ssim"), grey(noise), grey(1 - noise)) < -0.5


@pytest.mark.parametrize("name", OWN)
def test_the_planted_nearest_slice_is_found_among_distractors(name):
    frames = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    measure = similarity(name, grid=8)
    candidates = torch.stack([measure.describe(f) for f in FakeBackbone().encode(frames)])
    for planted in range(6):
        (near,) = FakeBackbone().encode((frames[[planted]] + 0.02).clamp(0, 1))
        assert int(measure.scores(measure.describe(near), candidates).argmax()) == planted


@pytest.mark.parametrize("name", OWN)
def test_all_candidates_at_once_score_as_one_by_one(name):
    frames = torch.rand(5, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    measure = similarity(name)
    query, *candidates = (measure.describe(f) for f in FakeBackbone().encode(frames))
    together = measure.scores(query, torch.stack(candidates))
    if name == "cosine":  # its centre is the mean of the candidates
        return
    alone = torch.cat([measure.scores(query, one[None]) for one in candidates])
    torch.testing.assert_close(together, alone)


def test_matches_are_entries_with_the_record_of_where_they_are_from():
    pixels = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    labels = torch.ones(4, 64, 64, dtype=torch.uint8)
    support = SupportFrames(pixels, labels, 1, (0, 0, 1, 1), (4, 7, 0, 2))
    measure = similarity("l1")
    memory = SupportMemory.build(FakeBackbone(), support, [0, 1, 2, 3], describe=measure.describe)
    (query,) = FakeBackbone().encode(pixels[[3]])
    entries, chosen = matched(memory, measure, query, 2)
    assert torch.equal(entries[0].tokens, memory.entries[3, 0].tokens)
    assert (chosen[0].case, chosen[0].position, chosen[0].score) == (1, 2, 0)
    assert chosen[1].score < 0


@pytest.mark.parametrize(
    ("name", "grid", "message"),
    [("best", 0, "similarity is 'best'; use perceptual, l1"), ("l1", -1, "grid is -1")],
)
def test_a_measure_that_does_not_exist_is_refused(name, grid, message):
    with pytest.raises(UsageError, match=message):
        similarity(name, grid)


def test_pixels_cannot_be_compared_where_the_backbone_keeps_none():
    with pytest.raises(UsageError, match="keeps no pixels"):
        similarity("psnr").describe(features([[[0.0]]]))


def test_lpips_without_its_package_is_refused(monkeypatch):
    monkeypatch.setattr(measures, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match="pip install lpips"):
        similarity("lpips")


@pytest.fixture
def lpips_package(monkeypatch, tmp_path):
    """A stand-in for the package: one level of the three colours, weighed 1, 4 and 0."""
    line = nn.Conv2d(3, 1, 1, bias=False).requires_grad_(False)
    line.weight.data = torch.tensor([1.0, 4.0, 0.0]).view(1, 3, 1, 1)

    class Network(nn.Module):
        def __init__(self, net, verbose):
            super().__init__()
            self.net = lambda pixels: (pixels + 1,)
            self.scaling_layer = nn.Identity()
            self.lins = [SimpleNamespace(model=nn.Sequential(nn.Dropout(), line))]

    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=Network, __spec__=None))
    monkeypatch.setattr(measures, "find_spec", lambda name: object())
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    measures._lpips_net.cache_clear()
    yield tmp_path / "checkpoints"
    measures._lpips_net.cache_clear()


def test_lpips_weighs_squared_differences_of_unit_channels(lpips_package):
    lpips_package.mkdir()
    (lpips_package / "alexnet-owt-7be5be79.pth").touch()
    red, green = (torch.zeros(1, 3, 256, 256) for _ in range(2))
    red[:, 0], green[:, 1] = 1, 1
    query, other = features([[[0.0]]], pixels=red), features([[[0.0]]], pixels=green)
    assert score(similarity("lpips"), query, other) == pytest.approx(-5, rel=1e-4)  # 1 * 1 + 4 * 1


def test_lpips_without_its_alexnet_is_refused_rather_than_downloaded(lpips_package):
    with pytest.raises(WeightsUnavailable, match="AlexNet"):
        similarity("lpips").describe(grey(0.5))
