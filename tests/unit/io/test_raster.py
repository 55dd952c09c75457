import numpy as np
import pytest
from PIL import Image

from unprompted.errors import DataRefused, GeometryMismatch, LabelRefused, UnreadableFile
from unprompted.geometry import Grid
from unprompted.images import LabelMap
from unprompted.io.base import read_image, read_labels, result_path, write_labels

GREY = np.array([[0, 1, 2], [3, 4, 255]], np.uint8)


def save(path, array, **kwargs):
    Image.fromarray(np.asarray(array)).save(path, **kwargs)
    return path


def labels_of(array, classes=None):
    array = np.asarray(array)
    return LabelMap(array, Grid.without_mm(array.shape), classes or {})


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_a_grey_picture_is_one_slice_in_pixels(tmp_path, suffix):
    volume = read_image(save(tmp_path / f"us.1{suffix}", GREY))
    assert volume.voxels.tolist() == [GREY.tolist()]
    assert (volume.axis, volume.name, volume.grid.in_mm) == ("z", "us.1", False)


def test_a_colour_picture_keeps_three_channels_and_loses_transparency(tmp_path):
    rgba = np.zeros((2, 3, 4), np.uint8)
    rgba[..., :3] = [10, 20, 30]
    volume = read_image(save(tmp_path / "x.png", rgba))
    assert volume.voxels.shape == (1, 2, 3, 3)
    assert volume.voxels[0, 0, 0].tolist() == [10, 20, 30]


def test_16_bit_and_float_pictures_keep_their_values(tmp_path):
    assert read_image(save(tmp_path / "a.png", np.array([[65535, 7]], np.uint16))).voxels.tolist() == [
        [[65535, 7]]
    ]
    assert read_image(save(tmp_path / "a.tif", np.array([[0.5, -7]], np.float32))).voxels.tolist() == [
        [[0.5, -7]]
    ]


def test_an_indexed_picture_is_shown_in_its_colours_and_read_as_its_indices(tmp_path):
    picture = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("L")
    picture.putpalette([0, 0, 0, 255, 0, 0])
    picture.save(tmp_path / "p.png")
    assert read_image(tmp_path / "p.png").voxels.tolist() == [[[[0, 0, 0], [255, 0, 0]]]]
    assert read_labels(tmp_path / "p.png").labels.tolist() == [[[0, 1]]]


def test_pages_of_a_tiff_are_a_stack(tmp_path):
    pages = [Image.fromarray(GREY + page) for page in (0, 1)]
    pages[0].save(tmp_path / "s.tif", save_all=True, append_images=pages[1:])
    volume = read_image(tmp_path / "s.tif")
    assert volume.voxels[:, 0].tolist() == [[0, 1, 2], [1, 2, 3]]
    assert result_path(tmp_path, "s", tmp_path / "s.tif") == tmp_path / "s.tif"
    write_labels(labels_of([GREY, GREY % 3]), tmp_path / "o.tif", tmp_path / "s.tif")
    assert read_labels(tmp_path / "o.tif").labels.tolist() == [GREY.tolist(), (GREY % 3).tolist()]
    with pytest.raises(LabelRefused, match=r"2 slices need a \.tif"):
        write_labels(labels_of([GREY, GREY]), tmp_path / "o.png", tmp_path / "s.tif")


def test_pages_of_different_size_are_refused(tmp_path):
    pages = [Image.fromarray(GREY), Image.fromarray(GREY.T.copy())]
    pages[0].save(tmp_path / "s.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(UnreadableFile, match="one size"):
        read_image(tmp_path / "s.tif")


def test_a_mask_of_0_and_255_is_one_class(tmp_path):
    assert read_labels(save(tmp_path / "m.png", np.array([[0, 255]], np.uint8))).labels.tolist() == [[[0, 1]]]


@pytest.mark.parametrize("values", [[0, 1, 255], [1, 255], [255, 255], [0, 0]])
def test_no_other_mask_is_reinterpreted(tmp_path, values):
    assert read_labels(save(tmp_path / "m.png", np.array([values], np.uint8))).labels.tolist() == [[values]]


def test_a_grey_mask_stored_as_rgb_is_read(tmp_path):
    mask = np.repeat(np.array([[[0], [2]]], np.uint8), 3, axis=2)
    assert read_labels(save(tmp_path / "m.png", mask)).labels.tolist() == [[[0, 2]]]


def test_a_colour_coded_mask_is_refused(tmp_path):
    path = save(tmp_path / "m.png", np.array([[[255, 0, 0], [0, 255, 0]]], np.uint8))
    with pytest.raises(LabelRefused, match=r"m\.png: the mask is a colour picture"):
        read_labels(path)


def test_jpeg_labels_are_refused(tmp_path):
    with pytest.raises(LabelRefused, match="JPEG changes label values"):
        read_labels(save(tmp_path / "m.jpg", GREY))


def test_labels_are_written_as_an_indexed_png_in_the_palette(tmp_path):
    like = save(tmp_path / "i.jpg", np.zeros((1, 3, 3), np.uint8))
    out = result_path(tmp_path / "out", "i", like)
    write_labels(labels_of(np.array([[[0, 1, 2]]], np.uint8)), out, like)
    with Image.open(out) as picture:
        assert picture.mode == "P"
        assert np.asarray(picture).tolist() == [[0, 1, 2]]
        assert picture.getpalette()[3:9] == [230, 159, 0, 86, 180, 233]
    assert out == tmp_path / "out" / "i.png"


def test_more_than_255_classes_make_a_16_bit_png(tmp_path):
    like = save(tmp_path / "i.png", np.zeros((1, 2), np.uint8))
    write_labels(labels_of(np.array([[[0, 300]]], np.uint16)), tmp_path / "o.png", like)
    assert np.asarray(Image.open(tmp_path / "o.png")).tolist() == [[0, 300]]
    assert read_labels(tmp_path / "o.png").labels.tolist() == [[[0, 300]]]


def test_labels_of_another_size_are_not_written(tmp_path):
    like = save(tmp_path / "i.png", GREY)
    with pytest.raises(GeometryMismatch, match=r"labels are \(1, 1, 2\)"):
        write_labels(labels_of(np.zeros((1, 1, 2), np.uint8)), tmp_path / "o.png", like)


def test_two_runs_write_the_same_bytes(tmp_path):
    like = save(tmp_path / "i.png", GREY)
    for name in ("a.png", "b.png"):
        write_labels(labels_of(GREY[None]), tmp_path / name, like)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_a_truncated_picture_is_refused(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    path = save(tmp_path / f"t{suffix}", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableFile, match="truncated"):
        read_image(path)


def test_nan_pixels_are_refused(tmp_path):
    path = save(tmp_path / "n.tif", np.full((2, 2), np.nan, np.float32))
    with pytest.raises(DataRefused, match="4 voxels are NaN"):
        read_image(path)
