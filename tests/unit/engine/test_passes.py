import logging

import nibabel as nib
import numpy as np
import pytest
import torch

import unprompted.slices as slices_module
from builders import make_labels, make_subject, make_volume
from fakes import FakeBackbone
from seeing import SeeingBackbone, Threshold
from unprompted.engine.passes import Mean, Said
from unprompted.engine.views import Look, Views, World
from unprompted.geometry import Grid
from unprompted.images import LabelMap, Volume
from unprompted.io.base import read_image, write_labels
from unprompted.io.nifti import write_volume
from unprompted.segmenter import FittedSegmenter, Segmenter
from unprompted.slices import is_mapped
from unprompted.support import SupportSet

pytestmark = pytest.mark.usefixtures("single_thread")
SHAPE = (20, 48, 40)
EVERY = [(name,) for name in Views.known()] + [Views.known(), ("flips", "zoom"), ("axes", "body")]


def planted(shape=SHAPE, place=((5, 8, 4), (13, 24, 16)), grid=None, name="case"):
    """A bright box off the middle of a dim body, and its labels."""
    (d, h, w), (e, i, x) = place
    labels = np.zeros(shape, np.uint8)
    labels[d:e, h:i, w:x] = 1
    voxels = np.where(labels > 0, 200.0, 20.0).astype(np.float32)
    grid = grid or Grid.with_spacing(shape, (1, 1, 1))
    return Volume(voxels, grid, name=name), LabelMap(labels, grid, {1: "organ"})


def fit(views, cases=None, method=None, **how):
    return Segmenter(method or Threshold(), SeeingBackbone(), Views.named(views)).fit(
        cases or [planted()], **how
    )


@pytest.mark.parametrize("views", EVERY, ids=",".join)
def test_every_view_finds_the_same_voxels(views):
    query, truth = planted(place=((6, 26, 20), (15, 40, 37)))
    prediction = fit(views).segment(query)
    np.testing.assert_array_equal(prediction.labels.labels, truth.labels)
    assert prediction.labels.grid.same_space(query.grid)
    assert prediction.quality.shape == (20, 1)
    assert prediction.provenance.views == Views.named(views).names


@pytest.mark.parametrize("views", ["flips,axes", ",".join(Views.known())])
@pytest.mark.parametrize(("directions", "axis"), [("RAS", "S"), ("LPS", "A"), ("PIR", "R")])
def test_every_view_finds_the_same_voxels_however_they_are_stored(views, directions, axis, tmp_path):
    affine = nib.orientations.inv_ornt_aff(nib.orientations.axcodes2ornt(directions), SHAPE)
    query, truth = planted(place=((6, 30, 20), (15, 44, 37)), grid=Grid(SHAPE, affine))
    nib.save(nib.Nifti1Image(query.voxels, affine), tmp_path / "image.nii.gz")
    prediction = fit(views, axis=axis).segment(read_image(tmp_path / "image.nii.gz"))
    write_labels(prediction.labels, tmp_path / "mask.nii.gz", like=tmp_path / "image.nii.gz")
    np.testing.assert_array_equal(np.asanyarray(nib.load(tmp_path / "mask.nii.gz").dataobj), truth.labels)


@pytest.mark.parametrize("views", ["flips", "zoom", "body", "flips,zoom,body"])
@pytest.mark.parametrize(("depth", "axis"), [(1, "z"), (5, "t")], ids=["picture", "video"])
def test_pictures_and_videos_find_the_same_pixels(views, depth, axis):
    def case(left):
        labels = np.zeros((depth, 64, 64), np.uint8)
        labels[:, 20:36, left : left + 12] = 1
        return Volume(255.0 * labels, Grid.without_mm(labels.shape), axis), make_labels(labels)

    query, truth = case(40)
    np.testing.assert_array_equal(fit(views, [case(8)]).segment(query).labels.labels, truth.labels)


@pytest.mark.parametrize("views", [(), Views.known()], ids=",".join)
def test_a_case_on_disk_gives_what_one_in_memory_gives(views, monkeypatch, tmp_path):
    query, truth = planted(place=((6, 26, 20), (15, 40, 37)))
    write_volume(query, tmp_path / "query.nii.gz")
    found = {}
    for held in (1 << 30, 0):
        monkeypatch.setattr(slices_module, "HELD_BYTES", held)
        volume = read_image(tmp_path / "query.nii.gz")
        assert is_mapped(volume.voxels) == (held == 0)
        found[held] = fit(views).segment(volume)
    held, mapped = found.values()
    np.testing.assert_array_equal(mapped.labels.labels, held.labels.labels)
    np.testing.assert_array_equal(mapped.confidence, held.confidence)
    np.testing.assert_array_equal(mapped.quality, held.quality)
    assert held.labels.labels.sum() == truth.labels.sum()


def test_support_and_query_are_mirrored_together():
    records = fit("flips").fitted.records
    plain, mirrored = (records[World(mirrored=side)].support for side in (False, True))
    assert plain.labels[8, :, :32].any()
    assert not mirrored.labels[8, :, :32].any()
    assert torch.equal(mirrored.labels, plain.labels.flip(2))
    torch.testing.assert_close(mirrored.pixels, plain.pixels.flip(3))


class OneSide(Threshold):
    """Knows from its support on which side of a frame the object lies, and finds it there only."""

    def begin(self, fitted, pooled, start):
        return bool(fitted.support.labels[:, :, :32].any()), super().begin(fitted, pooled, start)[1]

    def step(self, backbone, left, features, memory, at):
        step = super().step(backbone, left, features, memory, at)
        step.decoded.logits[..., slice(32, None) if left else slice(0, 32)] = -20
        return step


def test_a_left_and_a_right_object_keep_their_sides():
    query, truth = planted()
    query.voxels[5:13, 8:24, 24:36] = 200  # its twin on the other side
    prediction = fit("flips", method=OneSide()).segment(query)
    np.testing.assert_array_equal(prediction.labels.labels, truth.labels)


def test_a_view_that_disagrees_is_averaged():
    class OnlyPlain(OneSide):
        def step(self, backbone, left, features, memory, at):
            step = super().step(backbone, left, features, memory, at)
            step.decoded.logits -= 0 if left else 200
            return step

    prediction = fit("flips", method=OnlyPlain()).segment(planted()[0])
    assert prediction.confidence[9, 16, 10] == pytest.approx(0.5, abs=1e-3)
    assert prediction.confidence[0, 0, 0] == pytest.approx(1, abs=1e-3)


def test_zoom_shows_the_method_a_crop_around_what_was_found():
    seen = []

    class Watching(SeeingBackbone):
        def encode(self, frames):
            seen.append(frames)
            return super().encode(frames)

    watched = Segmenter(Threshold(), Watching(), Views(zoom=True)).fit([planted()])
    watched.segment(planted()[0])
    whole, crop = (torch.cat(seen[i : i + 3]) for i in (0, 3))
    assert [len(whole), len(crop)] == [20, 20]
    assert (whole[8] > 0.5).float().mean() == pytest.approx(16 * 12 / (48 * 40), abs=0.02)
    # Nine tenths of the box are 15 x 11; grown by a quarter and with margins 29 x 21.
    assert (crop[8] > 0.5).float().mean() == pytest.approx(16 * 12 / (29 * 21), abs=0.02)
    shown = watched.fitted.records[World(zoomed=True)].support
    assert (shown.labels[8] > 0).float().mean() == pytest.approx(16 * 12 / (29 * 21), abs=0.02)


def test_what_a_first_pass_missed_is_expected_from_the_support():
    labels = np.zeros((2, 60, 60), np.uint8)
    labels[:, 20:38, 20:38] = 1
    case = Volume(200.0 * labels, Grid.with_spacing(labels.shape, (4, 2, 2))), make_labels(labels, (4, 2, 2))
    fitted = fit("zoom", [case])
    assert fitted.fitted.gallery.expected_size(Grid.with_spacing((3, 50, 50), (8, 1, 4))) == (1, 36, 9)
    assert fitted.fitted.gallery.expected_size(Grid.without_mm((3, 50, 50))) == (3, 15, 15)


@pytest.mark.parametrize(
    "place", [((5, 8, 4), (5, 8, 4)), ((0, 1, 1), (20, 47, 39))], ids=["nothing", "everything"]
)
def test_zoom_keeps_the_first_pass_where_a_crop_is_no_use(place):
    query, _ = planted(place=place)
    query.voxels[...] += np.random.default_rng(0).normal(0, 3, SHAPE)
    zoomed, plain = fit("zoom").segment(query), fit("").segment(query)
    assert zoomed.labels.labels.tobytes() == plain.labels.labels.tobytes()
    assert zoomed.confidence.tobytes() == plain.confidence.tobytes()
    assert zoomed.quality.tobytes() == plain.quality.tobytes()


def test_a_body_away_from_the_middle_is_shown_alone():
    voxels = np.zeros((4, 60, 80), np.float32)
    labels = np.zeros(voxels.shape, np.uint8)
    voxels[:, 10:30, 10:40] = 90
    voxels[:, 14:20, 20:30], labels[:, 14:20, 20:30] = 200, 1
    case = Volume(voxels, Grid.with_spacing(voxels.shape, (3, 1, 1))), make_labels(labels, (3, 1, 1))
    fitted = fit("body", [case])
    shown = fitted.fitted.records[World()].support.labels[2] > 0
    assert shown.float().mean() == pytest.approx(60 / (22 * 34), abs=0.02)
    np.testing.assert_array_equal(fitted.segment(case[0]).labels.labels, labels)


def test_no_class_is_cut_away_with_the_background():
    voxels = np.zeros((2, 40, 40), np.float32)
    voxels[:, :20] = 200
    labels = np.zeros(voxels.shape, np.uint8)
    labels[:, 36:38, 4:8] = 1  # a class as dark as the background
    case = Volume(voxels, Grid.with_spacing(voxels.shape, (3, 1, 1))), make_labels(labels, (3, 1, 1))
    assert fit("body", [case]).fitted.records[World()].support.shows().all()


@pytest.mark.parametrize(("channel", "shift"), [(0, 1), (1, 0), (2, -1)])
def test_the_channels_are_the_slice_below_itself_and_the_one_above(channel, shift):
    query, truth = planted()
    found = fit("neighbours", method=Threshold(channel)).segment(query).labels.labels
    np.testing.assert_array_equal(found, np.roll(truth.labels, shift, axis=0))


def test_histogram_matching_brings_a_darker_query_to_the_support():
    ramp = np.linspace(0, 1, 64 * 64).reshape(1, 64, 64).repeat(4, axis=0)
    labels = make_labels(ramp > 0.5, (3, 1, 1))
    support = Volume((1000 * ramp).astype(np.float32), labels.grid, name="support")
    darker = Volume((1000 * ramp**1.5).astype(np.float32), labels.grid, name="query")
    wrong = {
        views: (fit(views, [(support, labels)]).segment(darker).labels.labels != labels.labels).mean()
        for views in ("", "histogram")
    }
    assert wrong[""] > 0.1
    assert wrong["histogram"] < 0.05


@pytest.mark.parametrize("offset", [-1000.0, None], ids=["ct", "pictures"])
def test_histogram_matching_leaves_ct_and_pictures_alone(offset):
    def case(seed):
        volume, labels = make_subject(
            (4, 64, 64), seed=seed, spacing_mm=None if offset is None else (3, 1, 1)
        )
        return (volume if offset is None else Volume(volume.voxels * 6 + offset, volume.grid)), labels

    predictions = [fit(v, [case(0)]).segment(case(5)[0]) for v in ("", "histogram")]
    assert predictions[0].confidence.tobytes() == predictions[1].confidence.tobytes()


def test_three_axes_are_learned_from_and_shown():
    records = fit("axes").fitted.records
    assert {world.axis: len(record.support) for world, record in records.items()} == {
        None: 20,
        "A": 48,
        "R": 40,
    }
    assert records[World("A")].support.positions == tuple(range(48))
    # "A" slices run from the back to the front, heads up: (front 48 - h, 20 - d, w)
    assert records[World("A")].support.labels.any(2).any(1).nonzero()[:, 0].tolist() == list(range(24, 40))


def test_a_query_of_thick_slices_is_cut_along_one_axis_and_that_is_said(caplog):
    query, _ = planted(grid=Grid.with_spacing(SHAPE, (3, 1, 1)), name="thick")
    fitted, plain = fit("axes", axis="S"), fit("", axis="S")
    with caplog.at_level(logging.WARNING, "unprompted"):
        prediction = fitted.segment(query)
    assert "thick is cut along one axis only" in caplog.text
    assert prediction.confidence.tobytes() == plain.segment(query).confidence.tobytes()


def test_quality_is_the_mean_over_views_by_what_each_found_in_a_slice():
    mean = Mean.over(2, (2, 2, 2), objects=1)
    look = Look.into(World("A"), "S", (slice(0, 2),) * 3)  # "A" from "S": (1 - h, 1 - d, w)
    everywhere, upper = torch.full((1, 1, 2, 2), 9.0), torch.tensor([[[[9.0, 9.0], [-9.0, -9.0]]]])
    said = [Said(0, everywhere, torch.tensor([0.2]), ()), Said(1, upper, torch.tensor([0.8]), ())]
    mean.add(look, iter(said), across=True)
    # Slice d=0 is crossed by the first frame alone (2 pixels of 0.2), d=1 by both (2 of 0.2, 2 of 0.8).
    assert mean.quality[:, 0].tolist() == pytest.approx([0.1, 0.25])
    found = mean.finished((slice(0, 2), slice(0, 2)), Said(1, everywhere, torch.tensor([0.7]), ()))
    assert found.quality.tolist() == pytest.approx([0.6])
    assert found.number.tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize("views", EVERY, ids=",".join)
def test_every_frame_is_told_once_with_its_final_labels(views):
    told = {}
    prediction = fit(views).segment(
        planted()[0], lambda at, labels, quality: told.update({at: labels.copy()})
    )
    np.testing.assert_array_equal(np.stack([told[at] for at in range(20)]), prediction.labels.labels)


@pytest.mark.parametrize("views", ["flips", "axes,zoom"])
def test_a_sweep_of_several_views_stops_when_told(views):
    told = []

    def stop_at_ten(at, labels, quality):
        told.append(at)
        return len(told) < 10

    found = fit(views).segment(planted()[0], stop_at_ten).labels.labels
    assert told == list(range(10))
    assert found[9].any()
    assert not found[10:].any()


def test_each_geometry_learns_for_itself():
    fitted = fit("axes,zoom,flips")
    assert sorted(fitted.learned) == sorted(
        ["mean", "view:A/mean", "view:R/mean", "view:zoom/mean", "view:A-zoom/mean", "view:R-zoom/mean"]
    )
    records = fitted.fitted.records
    for world, record in records.items():
        plain = records[World(world.axis, world.zoomed)].support.pixels.mean()
        assert record.learned["mean"].item() == pytest.approx(plain.item())


def test_a_task_with_views_is_saved_and_loaded(tmp_path):
    views = Views(flips=True, zoom=True)
    case = make_subject((3, 40, 40), classes=2, spacing_mm=(2, 1, 1))
    query = make_subject((4, 40, 40), classes=2, spacing_mm=(2, 1, 1), seed=4)[0]
    fitted = Segmenter("sam2-mask", FakeBackbone(), views).fit([case])
    fitted.save(tmp_path)
    loaded = FittedSegmenter.load(tmp_path, FakeBackbone())
    assert loaded.views == views
    assert loaded.support.examples[0].spacing == (2, 1, 1)
    first, second = fitted.segment(query), loaded.segment(query)
    assert first.confidence.tobytes() == second.confidence.tobytes()
    assert first.quality.tobytes() == second.quality.tobytes()


def test_slices_of_a_support_set_keep_their_own_neighbours():
    volume, labels = make_subject((9, 32, 32), spacing_mm=(3, 1, 1))
    whole = SupportSet.from_cases([(volume, labels)])
    some = SupportSet(tuple(e for e in whole.examples if e.position in (2, 3, 7)), whole.classes)
    pixels = fit("neighbours", some, axis="S").fitted.records[World()].support.pixels
    assert torch.equal(pixels[0, 2], pixels[1, 1])
    assert torch.equal(pixels[1, 0], pixels[0, 1])
    assert torch.equal(pixels[0, 0], pixels[0, 1])
    assert torch.equal(pixels[2, 0], pixels[2, 2])


def test_a_flat_query_of_a_volume_task_is_its_own_neighbour():
    flat = make_volume((1, 32, 32))
    fitted = fit("neighbours")
    assert fitted.segment(flat).confidence.tobytes() == fit("").segment(flat).confidence.tobytes()
