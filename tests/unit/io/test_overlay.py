import numpy as np
import pytest
from PIL import Image

from unprompted.errors import GeometryMismatch
from unprompted.geometry import Grid
from unprompted.images import LabelMap, Volume
from unprompted.io.overlay import chosen_slices, comparison_png, overlay_png
from unprompted.io.paint import contour, painted


def make_case(shape=(9, 20, 20), value=1, spacing_mm=(3, 1, 1)):
    grid = Grid.with_spacing(shape, spacing_mm)
    labels = np.zeros(shape, np.uint8)
    labels[:, 5:15, 5:15] = value
    ramp = np.tile(np.linspace(0, 1000, shape[2]), (*shape[:2], 1))
    return Volume(ramp, grid, name="pat1"), LabelMap(labels, grid, {1: "liver"})


def colours_in(path):
    with Image.open(path) as picture:
        return {tuple(c) for c in np.asarray(picture.convert("RGB")).reshape(-1, 3)}


def test_labels_are_drawn_with_a_full_contour_and_a_faint_fill():
    labels = np.zeros((5, 5), np.uint8)
    labels[1:4, 1:4] = 1
    picture = painted(np.zeros((5, 5, 3), np.uint8), labels, fill=0.5)
    assert picture[1, 1].tolist() == [230, 159, 0]
    assert picture[2, 2].tolist() == [115, 80, 0]
    assert picture[0, 0].tolist() == [0, 0, 0]


def test_a_contour_runs_between_touching_classes():
    assert contour(np.array([[1, 1, 1, 2, 2, 2]] * 3))[1].tolist() == [True, False, True, True, False, True]


def test_slices_are_spread_over_the_labelled_range():
    labels = np.zeros((30, 2, 2), np.uint8)
    labels[10:22, 0, 0] = 1
    assert chosen_slices(labels, 6) == [11, 13, 15, 17, 19, 21]
    assert chosen_slices(labels, 3) == [12, 16, 20]


def test_without_labels_slices_are_spread_over_the_whole_volume():
    assert chosen_slices(np.zeros((4, 2, 2), np.uint8), 2) == [1, 3]
    assert chosen_slices(np.zeros((1, 2, 2), np.uint8), 6) == [0]


def test_an_overlay_shows_the_class_in_its_colour(tmp_path):
    overlay_png(*make_case(), tmp_path / "o.png", tile=60)
    assert (230, 159, 0) in colours_in(tmp_path / "o.png")


def test_an_overlay_of_one_picture_shows_it_plain_and_labelled(tmp_path):
    overlay_png(*make_case((1, 20, 20)), tmp_path / "one.png", tile=300)
    with Image.open(tmp_path / "one.png") as picture:
        assert picture.width > 2 * 300
        assert picture.height < 2 * 300


def test_slices_are_shown_in_true_proportions(tmp_path):
    volume, labels = make_case((1, 20, 20), spacing_mm=(1, 1, 3))
    overlay_png(volume, labels, tmp_path / "flat.png", tile=300)
    with Image.open(tmp_path / "flat.png") as picture:
        assert picture.height < 250


def test_a_comparison_shows_classes_of_truth_and_prediction(tmp_path):
    volume, truth = make_case()
    _, prediction = make_case(value=2)
    comparison_png(volume, truth, prediction, tmp_path / "deep" / "c.png", tile=60)
    assert {(230, 159, 0), (86, 180, 233)} <= colours_in(tmp_path / "deep" / "c.png")


def test_a_colour_video_can_be_shown(tmp_path):
    grid = Grid.without_mm((3, 8, 8))
    video = Volume(np.full((3, 8, 8, 3), 100.0), grid, axis="t")
    overlay_png(video, LabelMap(np.zeros((3, 8, 8), np.uint8), grid), tmp_path / "v.png", tile=60)
    assert (100, 100, 100) in colours_in(tmp_path / "v.png")


def test_labels_of_another_shape_are_refused(tmp_path):
    volume, _ = make_case()
    _, labels = make_case((8, 20, 20))
    with pytest.raises(GeometryMismatch, match="do not lie on the image"):
        overlay_png(volume, labels, tmp_path / "o.png")


def test_two_runs_write_the_same_bytes(tmp_path):
    for name in ("a.png", "b.png"):
        overlay_png(*make_case(), tmp_path / name, tile=60)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
