import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unprompted.errors import GeometryMismatch, UsageError
from unprompted.geometry import (
    Grid,
    Reordering,
    canonical_reordering,
    reordering_between,
    slice_axis,
)


def diagonal(*steps, origin=(0, 0, 0)):
    affine = np.diag([*steps, 1.0])
    affine[:3, 3] = origin
    return affine


def rotation(x, y, z):
    """Degrees about the three world axes."""
    a, b, c = np.deg2rad([x, y, z])
    about_x = [[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]]
    about_y = [[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]]
    about_z = [[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]]
    return np.array(about_z) @ np.array(about_y) @ np.array(about_x)


signed_permutations = st.builds(
    Reordering, st.permutations([0, 1, 2]).map(tuple), st.tuples(st.booleans(), st.booleans(), st.booleans())
)
angles = st.one_of(st.sampled_from([0.0, 45.0, 90.0]), st.floats(-180, 180, width=16))
spacings = st.tuples(*[st.sampled_from([0.5, 1.0, 1.004, 3.0])] * 3)


@st.composite
def grids(draw):
    affine = np.eye(4)
    affine[:3, :3] = rotation(draw(angles), draw(angles), draw(angles)) * draw(spacings)
    affine[:3, 3] = draw(st.tuples(*[st.floats(-200, 200, width=16)] * 3))
    return Grid((2, 3, 4), affine)


def test_the_canonical_order_of_a_ras_file_has_slices_from_feet_to_head_and_the_face_up():
    grid = Grid((2, 3, 4), diagonal(1, 1, 3))
    assert canonical_reordering(grid) == Reordering(axes=(2, 1, 0), flips=(False, True, True))
    canonical = canonical_reordering(grid).apply_to_grid(grid)
    assert (canonical.shape, canonical.directions, canonical.spacing) == ((4, 3, 2), "SPL", (3, 1, 1))


def test_reordering_moves_the_voxel_and_its_world_position_together():
    grid = Grid((1, 2, 2), diagonal(1, 1, 1, origin=(10, 20, 30)))
    order = Reordering(axes=(0, 2, 1), flips=(False, True, False))
    array = np.array([[[1, 2], [3, 4]]])
    assert order.apply(array).tolist() == [[[2, 4], [1, 3]]]
    assert order.apply_to_grid(grid).affine.tolist() == [
        [1, 0, 0, 10],
        [0, 0, 1, 20],
        [0, -1, 0, 31],
        [0, 0, 0, 1],
    ]


def test_further_axes_such_as_colours_stay():
    order = Reordering(axes=(2, 1, 0), flips=(True, False, False))
    assert order.apply(np.zeros((2, 3, 4, 3))).shape == (4, 3, 2, 3)


@settings(deadline=None, max_examples=150)
@given(grids(), signed_permutations, arrays(np.uint8, (2, 3, 4)))
def test_every_storage_order_of_a_volume_has_one_canonical_order(grid, storage, array):
    expected = canonical_reordering(grid)
    stored, stored_grid = storage.apply(array), storage.apply_to_grid(grid)
    order = canonical_reordering(stored_grid)
    assert order.apply(stored).tolist() == expected.apply(array).tolist()
    assert order.apply_to_grid(stored_grid).same_space(expected.apply_to_grid(grid))


@settings(deadline=None, max_examples=150)
@given(grids(), signed_permutations, arrays(np.uint8, (2, 3, 4)))
def test_there_and_back_is_identity(grid, storage, array):
    order = canonical_reordering(grid)
    back = reordering_between(order.apply_to_grid(grid), grid)
    assert back.apply(order.apply(array)).tolist() == array.tolist()
    across = reordering_between(grid, storage.apply_to_grid(grid))
    assert across.apply(array).tolist() == storage.apply(array).tolist()


@pytest.mark.parametrize(
    ("spacing", "axis"),
    [((1, 1, 3), "S"), ((1, 3, 1), "A"), ((3, 1, 1), "R"), ((1, 1, 1), "S"), ((2, 2, 1), "A")],
)
def test_slices_lie_across_the_largest_spacing(spacing, axis):
    assert slice_axis(Grid((4, 4, 4), diagonal(*spacing))) == axis


def test_a_single_slice_lies_across_its_one_voxel_whatever_the_spacing():
    assert slice_axis(Grid((1, 8, 8), diagonal(1, 1, 1))) == "R"


def test_an_axis_can_be_chosen():
    grid = Grid((2, 3, 4), diagonal(1, 1, 3))
    assert canonical_reordering(grid, "R").apply_to_grid(grid).directions == "RIP"
    assert canonical_reordering(grid, "A").apply_to_grid(grid).directions == "AIL"
    with pytest.raises(UsageError, match=r"use S \(axial\), A \(coronal\) or R"):
        canonical_reordering(grid, "Z")


def test_a_grid_without_millimetres_is_canonical_already():
    grid = Grid.without_mm((2, 3, 4))
    assert canonical_reordering(grid) == Reordering((0, 1, 2), (False, False, False))
    assert not grid.in_mm
    assert grid.spacing == (1, 1, 1)


def test_a_spacing_without_orientation_is_taken_as_upright_axial_slices():
    grid = Grid.with_spacing((2, 3, 4), (5.0, 0.5, 0.25))
    assert (grid.directions, grid.spacing, grid.in_mm) == ("SPL", (5.0, 0.5, 0.25), True)


def test_micrometre_voxels_are_no_singular_affine():
    assert Grid((2, 2, 2), diagonal(1e-4, 1e-4, 1e-4)).spacing == pytest.approx((1e-4, 1e-4, 1e-4))


@pytest.mark.parametrize("affine", [np.zeros((4, 4)), diagonal(1, 1, 0), np.ones((4, 4))])
def test_a_singular_affine_is_refused(affine):
    with pytest.raises(GeometryMismatch, match="singular"):
        Grid((2, 2, 2), affine)


def test_an_affine_that_is_not_finite_is_refused():
    with pytest.raises(GeometryMismatch, match="finite 4x4"):
        Grid((2, 2, 2), diagonal(1, np.nan, 1))


def test_the_same_space_allows_a_thousandth_of_a_millimetre():
    grid = Grid((2, 2, 2), diagonal(1, 1, 1))
    assert grid.same_space(Grid((2, 2, 2), diagonal(1, 1, 1, origin=(0.0005, 0, 0))))
    assert not grid.same_space(Grid((2, 2, 2), diagonal(1, 1, 1, origin=(0.01, 0, 0))))
    assert not grid.same_space(Grid((2, 2, 3), diagonal(1, 1, 1)))


def test_grids_of_different_voxels_cannot_be_reordered_into_each_other():
    with pytest.raises(GeometryMismatch, match="different voxels"):
        reordering_between(Grid((2, 2, 2), diagonal(1, 1, 1)), Grid((2, 2, 2), diagonal(1, 1, 2)))


def test_a_grid_describes_itself_in_one_line():
    grid = Grid((2, 3, 4), diagonal(1, 2, 3, origin=(-5, 0, 7)))
    assert grid.describe() == "shape (2, 3, 4), spacing 1 x 2 x 3 mm, origin (-5, 0, 7), RAS"


@pytest.mark.parametrize("axis", ["S", "A", "R"])
def test_a_grid_with_spacing_is_canonical_across_the_axis_it_is_taken_to_have(axis):
    grid = Grid.with_spacing((2, 3, 4), (5.0, 0.5, 0.25), axis=axis)
    assert canonical_reordering(grid, axis) == Reordering((0, 1, 2), (False, False, False))
    assert grid.spacing == (5.0, 0.5, 0.25)
