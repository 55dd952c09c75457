import torch

from unprompted.methods.pseudo_box import boxes_around


def planted(*parts, side=32):
    """A mask of rectangles given as x0, y0, x1, y1, ends included."""
    mask = torch.zeros(side, side, dtype=torch.bool)
    for x0, y0, x1, y1 in parts:
        mask[y0 : y1 + 1, x0 : x1 + 1] = True
    return mask


def test_the_box_of_a_planted_mask_is_exact():
    rows, boxes = boxes_around(planted((4, 10, 13, 24))[None], 0.0, "largest")
    assert rows.tolist() == [0]
    assert boxes.tolist() == [[4, 10, 13, 24]]


def test_a_single_pixel_has_a_box():
    assert boxes_around(planted((7, 3, 7, 3))[None], 0.0, "all")[1].tolist() == [[7, 3, 7, 3]]


def test_the_largest_component_alone_is_boxed_or_everything():
    mask = planted((0, 0, 2, 2), (10, 12, 20, 18))[None]
    assert boxes_around(mask, 0.0, "largest")[1].tolist() == [[10, 12, 20, 18]]
    assert boxes_around(mask, 0.0, "all")[1].tolist() == [[0, 0, 20, 18]]


def test_parts_that_touch_at_a_corner_are_one():
    mask = planted((0, 0, 3, 3), (4, 4, 9, 9))[None]
    assert boxes_around(mask, 0.0, "largest")[1].tolist() == [[0, 0, 9, 9]]


def test_the_margin_is_relative_to_the_size_and_ends_at_the_frame():
    mask = planted((4, 1, 13, 20))[None]  # 10 wide, 20 high
    assert boxes_around(mask, 0.1, "largest")[1].tolist() == [[3, 0, 14, 22]]


def test_an_empty_mask_has_no_box():
    masks = torch.stack([planted(), planted((1, 2, 3, 4)), planted()])
    rows, boxes = boxes_around(masks, 0.0, "largest")
    assert rows.tolist() == [1]
    assert boxes.tolist() == [[1, 2, 3, 4]]
    rows, boxes = boxes_around(masks[[0]], 0.1, "all")
    assert (rows.tolist(), boxes.shape) == ([], (0, 4))
