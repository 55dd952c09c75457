import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unprompted.engine.regions import around, around_found, body, clearly_smaller, everything, extent, union


def spans(region):
    return [(part.start, part.stop) for part in region]


def boxes(shape, **places):
    numbers = np.zeros(shape, np.uint8)
    for number, ((d, h, w), (e, i, x)) in enumerate(places.values(), start=1):
        numbers[d:e, h:i, w:x] = number
    return numbers


def test_a_region_holds_every_class_and_no_more():
    numbers = boxes((20, 40, 80), liver=((2, 4, 40), (16, 28, 78)), spleen=((5, 30, 10), (18, 38, 20)))
    assert spans(around(numbers)) == [(2, 18), (4, 38), (10, 78)]


def test_a_region_has_a_margin_of_a_quarter_of_the_size():
    numbers = boxes((20, 40, 80), liver=((8, 16, 40), (16, 28, 60)))
    assert spans(around_found(numbers, least=(12, 16, 24))) == [(2, 20), (10, 34), (32, 68)]


def test_at_the_edge_a_region_moves_inwards():
    numbers = boxes((8, 40, 80), liver=((0, 0, 60), (8, 20, 80)))
    assert spans(around_found(numbers, least=(8, 24, 24))) == [(0, 8), (0, 36), (44, 80)]


def test_what_was_found_far_from_most_of_it_does_not_count():
    numbers = boxes((10, 100, 100), liver=((2, 20, 20), (8, 60, 60)))
    clean = around_found(numbers, least=(0, 0, 0))
    numbers[5, 90:98, 90:98] = 1
    for found, wanted in zip(spans(around_found(numbers, least=(0, 0, 0))), spans(clean), strict=True):
        assert found == pytest.approx(wanted, abs=4)


def test_a_small_class_beside_a_large_one_is_found_by_itself():
    numbers = boxes((10, 100, 100), liver=((2, 20, 20), (8, 60, 60)), duct=((5, 80, 80), (6, 82, 82)))
    (_, (top, bottom), (left, right)) = spans(around_found(numbers, least=(0, 0, 0)))
    assert (top, left) <= (10, 10)
    assert (bottom, right) >= (90, 90)


def test_a_disc_is_grown_to_its_full_width():
    rows, columns = np.mgrid[:100, :100]
    disc = (((rows - 49.5) ** 2 + (columns - 49.5) ** 2) < 20**2)[None].astype(np.uint8)
    (_, (top, bottom), _) = spans(around_found(disc, least=(0, 0, 0)))
    assert (top, bottom) == pytest.approx((20, 80), abs=2)  # 40 wide and a margin of 10 on each side


def test_less_than_expected_is_taken_for_a_part():
    numbers = boxes((10, 100, 100), part=((4, 45, 45), (6, 55, 55)))
    found = spans(around_found(numbers, least=(4, 40, 20)))
    assert found == [(2, 8), (20, 80), (35, 65)]  # one and a half times the size


def test_a_few_voxels_are_not_blown_up_to_a_whole_frame():
    numbers = boxes((8, 40, 80), spot=((4, 20, 40), (5, 21, 41)))
    assert spans(around_found(numbers, least=(1, 1, 1))) == [(3, 5), (15, 25), (30, 50)]


def test_nothing_found_is_no_region():
    assert around(np.zeros((2, 4, 4), np.uint8)) is None
    assert around_found(np.zeros((2, 4, 4), np.uint8), least=(2, 2, 2)) is None


def test_the_extent_is_the_size_of_what_is_shown():
    assert extent(boxes((9, 40, 80), liver=((2, 4, 40), (6, 28, 78))) > 0) == (4, 24, 38)


@given(
    st.tuples(*[st.integers(1, 30)] * 3).flatmap(
        lambda shape: st.tuples(st.just(shape), st.tuples(*[st.integers(0, n - 1) for n in shape]))
    ),
    st.integers(1, 12),
)
def test_a_region_lies_in_the_case_and_holds_what_was_found(drawn, size):
    shape, corner = drawn
    numbers = boxes(shape, box=(corner, tuple(c + size for c in corner)))
    exact, found = around(numbers), around_found(numbers, least=(3, 8, 50))
    for region in (exact, found):
        assert all(0 <= part.start < part.stop <= n for part, n in zip(region, shape, strict=True))
        assert (numbers[region] > 0).sum() == (numbers > 0).sum()


@pytest.mark.parametrize(("side", "smaller"), [(8, True), (9, False), (10, False)])
def test_a_crop_of_more_than_four_fifths_is_not_worth_it(side, smaller):
    assert clearly_smaller((slice(0, 3), slice(0, side), slice(0, 10)), everything((3, 10, 10))) is smaller


def test_the_union_holds_both():
    both = union((slice(1, 3), slice(4, 5), slice(0, 9)), (slice(2, 7), slice(1, 2), slice(3, 4)))
    assert spans(both) == [(1, 7), (1, 5), (0, 9)]
    assert spans(union(both, None)) == spans(both)


@pytest.mark.parametrize("channels", [(), (3,)])
def test_the_body_is_what_is_not_background(channels):
    stack = np.full((4, 60, 80), 0.05, np.float32)
    stack[:, 20:40, 10:50] = 0.6
    stack[:, 25:30, 20:30] = 0.9
    stack = np.broadcast_to(stack.reshape(*stack.shape, *[1 for _ in channels]), (4, 60, 80, *channels))
    assert spans(body(stack)) == [(0, 4), (19, 41), (8, 52)]


def test_an_image_of_one_brightness_is_all_body():
    assert spans(body(np.full((2, 9, 8), 0.3, np.float32))) == [(0, 2), (0, 9), (0, 8)]
