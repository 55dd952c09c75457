import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import make_labels, make_subject, make_volume
from unprompted.engine.regions import everything
from unprompted.engine.views import Look, Views, World, reslicable, with_neighbours
from unprompted.errors import UsageError
from unprompted.geometry import Grid
from unprompted.images import Volume
from unprompted.support import SupportSet

AXES = st.sampled_from(["S", "A", "R"])


def numbered(shape):
    return np.arange(np.prod(shape)).reshape(shape)


@st.composite
def regions(draw, shape):
    parts = []
    for length in shape:
        start = draw(st.integers(0, length - 1))
        parts.append(slice(start, draw(st.integers(start + 1, length))))
    return tuple(parts)


@st.composite
def looks(draw):
    shape = draw(st.tuples(*[st.integers(1, 6)] * 3))
    world = World(draw(st.none() | AXES), mirrored=draw(st.booleans()))
    return shape, world, draw(AXES), draw(regions(shape))


@given(looks())
def test_what_is_written_where_it_was_seen_comes_back(drawn):
    shape, world, axis, region = drawn
    look, source = Look.into(world, axis, region), numbered((*shape, 2)) + 1
    target = np.zeros_like(source)
    look.of(target)[...] = look.of(source).copy()
    seen = target > 0
    assert (target[seen] == source[seen]).all()
    assert seen[region].all()
    assert seen.any(axis=3).sum() == look.of(source)[..., 0].size


@given(AXES, AXES, st.permutations([0, 1, 2]), st.tuples(*[st.booleans()] * 3))
def test_another_axis_is_seen_as_the_image_sliced_along_it(own, other, order, flips):
    affine = np.eye(4)[:, [*order, 3]] * [*np.where(flips, -1, 1), 1]
    image = Volume(numbered((3, 4, 5)).astype(np.float32), Grid((3, 4, 5), affine))
    case = image.sliced_along(own)
    look = Look.into(World(other), own, everything(case.grid.shape))
    np.testing.assert_array_equal(look.of(case.voxels), image.sliced_along(other).voxels)


def test_a_mirrored_frame_runs_from_right_to_left():
    look = Look.into(World(mirrored=True), "S", everything((1, 2, 3)))
    assert look.of(numbered((1, 2, 3))).tolist() == [[[2, 1, 0], [5, 4, 3]]]


def test_a_region_cuts_frames_and_keeps_all_slices():
    region = (slice(1, 2), slice(2, 4), slice(0, 3))
    assert Look.into(World(), "S", region).of(numbered((4, 5, 6))).shape == (4, 2, 3)
    assert Look.into(World("A"), "S", region).of(numbered((4, 5, 6))).shape == (5, 1, 3)
    assert Look.into(World("R"), "S", region).of(numbered((4, 5, 6))).shape == (6, 1, 2)


def test_neighbours_become_channels_and_the_ends_repeat_themselves():
    stack = np.array([10, 11, 12]).reshape(3, 1, 1)
    assert with_neighbours(stack, range(3))[:, 0, 0].tolist() == [[10, 10, 11], [10, 11, 12], [11, 12, 12]]


def test_a_neighbour_nobody_labelled_is_replaced_by_the_slice_itself():
    stack = np.array([3, 7, 8]).reshape(3, 1, 1)
    assert with_neighbours(stack, [3, 7, 8])[:, 0, 0].tolist() == [[3, 3, 3], [7, 7, 8], [7, 8, 8]]


def test_views_are_named_in_a_text_or_a_list():
    assert Views.named("flips, zoom") == Views.named(["zoom", "flips"]) == Views(flips=True, zoom=True)
    assert Views.named("") == Views.named([]) == Views()
    assert Views(zoom=True, flips=True).names == ("flips", "zoom")


def test_an_unknown_view_is_refused_with_those_known():
    known = "flips, axes, neighbours, histogram, zoom, body, rest, near"
    with pytest.raises(UsageError, match=f"no view is called mirror, tta; known: {known}"):
        Views.named("mirror,flips,tta")


def test_a_method_learns_once_a_geometry_and_mirrored_worlds_share_it():
    assert Views(flips=True).geometries("S") == (World(),)
    assert Views(flips=True).worlds("S") == (World(), World(mirrored=True))
    views = Views(axes=True, zoom=True, flips=True)
    prefixes = ["", "view:R/", "view:A/", "view:zoom/", "view:R-zoom/", "view:A-zoom/"]
    assert [world.prefix for world in views.geometries("S")] == prefixes
    assert len(views.worlds("S")) == 12


def test_each_world_gets_what_was_learned_for_it():
    learned = {"w": 1, "lift.w": 2, "view:zoom/w": 3, "view:A/w": 4, "view:A-zoom/w": 5}
    assert World().own(learned) == World(mirrored=True).own(learned) == {"w": 1, "lift.w": 2}
    assert World(zoomed=True).own(learned) == {"w": 3}
    assert World("A").own(learned) == {"w": 4}
    assert World("A", True, True).own(learned) == {"w": 5}
    assert World("R").own(learned) == {}


@pytest.mark.parametrize(
    ("shape", "spacing", "fits"),
    [
        ((16, 16, 16), (1, 1, 1), True),
        ((16, 90, 90), (2, 1, 1.5), True),
        ((16, 90, 90), (2.1, 1, 1), False),
        ((15, 90, 90), (1, 1, 1), False),
    ],
)
def test_volumes_of_near_equal_spacing_and_enough_slices_can_be_cut_along_every_axis(shape, spacing, fits):
    assert reslicable(shape, spacing) is fits


def whole_case(shape=(16, 16, 16), spacing_mm=(1, 1, 1), **how):
    return SupportSet.from_cases([make_subject(shape, spacing_mm=spacing_mm, **how)])


@pytest.mark.parametrize("view", ["flips", "histogram", "zoom", "body"])
def test_pictures_and_videos_take_all_views_but_those_of_volumes(view):
    Views.named(view).check(whole_case((1, 16, 16), None, rgb=True), None)


@pytest.mark.parametrize("view", ["axes", "neighbours"])
def test_views_of_volumes_are_refused_without_one(view):
    with pytest.raises(UsageError, match=f"the view {view} is for volumes"):
        Views.named(view).check(whole_case((1, 16, 16), None), None)


def test_neighbours_of_colour_volumes_are_refused():
    with pytest.raises(UsageError, match="the support is in colour"):
        Views(neighbours=True).check(whole_case(rgb=True), "S")


def test_whole_volumes_of_near_equal_spacing_take_all_views():
    Views.named(Views.known()).check(whole_case(), "S")


@pytest.mark.parametrize(
    ("shape", "spacing", "found"),
    [
        (
            (16, 16, 16),
            (3, 1, 1),
            "of support case subject-0 it has 16 x 16 x 16 voxels with spacing 3 x 1 x 1",
        ),
        ((8, 16, 16), (1, 1, 1), "it has 8 x 16 x 16 voxels"),
    ],
)
def test_three_axes_of_thick_slices_are_refused(shape, spacing, found):
    with pytest.raises(UsageError, match=found):
        Views(axes=True).check(whole_case(shape, spacing), "S")


def test_three_axes_of_a_case_with_some_slices_labelled_are_refused():
    volume = make_volume((16, 16, 16), (1, 1, 1), name="patient")
    labelled = np.arange(16) < 5
    labels = make_labels(np.ones((16, 16, 16)), (1, 1, 1), labelled=labelled)
    with pytest.raises(UsageError, match="patient only 5 of its 16 slices are labelled"):
        Views(axes=True).check(SupportSet.from_cases([(volume, labels)]), "S")
