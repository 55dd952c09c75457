import av
import numpy as np
import pytest
from PIL import Image

from unprompted.errors import DataRefused, GeometryMismatch, LabelRefused, UnreadableFile
from unprompted.geometry import Grid
from unprompted.images import LabelMap
from unprompted.io.base import read_image, read_labels, result_path, write_labels
from unprompted.io.video import frame_files, natural_order, read_some_labels


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path)


def make_frames(folder, count=3, shape=(4, 6)):
    for t in range(count):
        save(folder / f"f{t}.png", np.full(shape, t * 10))
    return folder


def make_film(path, count=5, shape=(32, 48), codec="mpeg4"):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *shape, "yuv420p"
        for t in range(count):
            pixels = np.full((*shape, 3), min(40 * t, 255), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def labels_of(shape, value=1):
    labels = np.zeros(shape, np.uint8)
    labels[:, 1:3, 1:3] = value
    return LabelMap(labels, Grid.without_mm(shape))


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mov", ".mkv"])
def test_a_film_is_read_as_rgb_frames(tmp_path, suffix):
    volume = read_image(make_film(tmp_path / f"film{suffix}"))
    assert volume.voxels.shape == (5, 32, 48, 3)
    assert volume.voxels.mean(axis=(1, 2, 3)) == pytest.approx([0, 40, 80, 120, 160], abs=5)
    assert (volume.axis, volume.name, volume.grid.in_mm) == ("t", "film", False)


def test_a_folder_of_grey_frames_is_a_grey_video_named_by_its_sequence(tmp_path):
    volume = read_image(make_frames(tmp_path / "seq1" / "frames"))
    assert volume.voxels[:, 0, 0].tolist() == [0, 10, 20]
    assert (volume.axis, volume.name) == ("t", "seq1")


def test_one_colour_frame_makes_the_video_colour(tmp_path):
    folder = make_frames(tmp_path / "v")
    save(folder / "f9.png", np.full((4, 6, 3), 7))
    assert read_image(folder).voxels[:, 0, 0].tolist() == [[0, 0, 0], [10, 10, 10], [20, 20, 20], [7, 7, 7]]


def test_frames_follow_their_numbers(tmp_path):
    for name in ("f10", "f9", "f100"):
        save(tmp_path / f"{name}.png", [[0]])
    assert [f.stem for f in frame_files(tmp_path)] == ["f9", "f10", "f100"]
    assert natural_order("a2b10") < natural_order("a10b2")


def test_frames_of_different_size_are_refused(tmp_path):
    folder = make_frames(tmp_path / "v")
    save(folder / "f9.png", np.zeros((5, 6)))
    with pytest.raises(DataRefused, match=r"one size, found \[\(4, 6\), \(5, 6\)\]"):
        read_image(folder)


def test_two_frames_of_one_name_are_refused(tmp_path):
    folder = make_frames(tmp_path / "v")
    save(folder / "f1.bmp", np.zeros((4, 6)))
    with pytest.raises(UnreadableFile, match="several frames are called f1"):
        read_image(folder)


def test_a_folder_without_frames_is_refused(tmp_path):
    (tmp_path / "v").mkdir()
    with pytest.raises(UnreadableFile, match="holds no frame"):
        read_image(tmp_path / "v")


def test_frames_without_a_mask_are_marked_as_unlabelled(tmp_path):
    save(tmp_path / "masks" / "f1.png", [[0, 2]])
    labels = read_some_labels(tmp_path / "masks", ["f0", "f1", "f2"])
    assert labels.labels.tolist() == [[[0, 0]], [[0, 2]], [[0, 0]]]
    assert labels.labelled.tolist() == [False, True, False]


def test_a_fully_masked_video_has_no_unlabelled_frame(tmp_path):
    save(tmp_path / "masks" / "f0.png", [[0, 255]])
    labels = read_labels(tmp_path / "masks")
    assert labels.labels.tolist() == [[[0, 1]]]
    assert labels.labelled is None


def test_a_mask_without_a_frame_is_refused(tmp_path):
    save(tmp_path / "seq" / "masks" / "f7.png", [[1]])
    with pytest.raises(LabelRefused, match="seq: masks without a frame of that name: f7"):
        read_some_labels(tmp_path / "seq" / "masks", ["f0"])


def test_masks_of_different_size_are_refused(tmp_path):
    save(tmp_path / "m" / "f0.png", [[1]])
    save(tmp_path / "m" / "f1.png", [[1, 1]])
    with pytest.raises(GeometryMismatch, match="one size"):
        read_some_labels(tmp_path / "m", ["f0", "f1"])


def test_a_video_file_is_no_label(tmp_path):
    with pytest.raises(LabelRefused, match="folder of mask PNGs"):
        read_labels(make_film(tmp_path / "m.mp4"))


def test_masks_are_written_under_the_names_of_their_frames_with_an_overlay_film(tmp_path):
    frames = make_frames(tmp_path / "seq" / "frames", shape=(32, 48))
    out = result_path(tmp_path / "out", "seq", frames)
    write_labels(labels_of((3, 32, 48)), out, frames)
    assert [p.name for p in sorted((tmp_path / "out").iterdir())] == ["seq", "seq_overlay.mp4"]
    assert [p.name for p in sorted((out / "masks").iterdir())] == ["f0.png", "f1.png", "f2.png"]
    with Image.open(out / "masks" / "f0.png") as mask:
        assert (mask.mode, np.asarray(mask).sum()) == ("P", 4)
    assert read_image(tmp_path / "out" / "seq_overlay.mp4").voxels.shape == (3, 32, 48, 3)


def test_masks_of_a_film_are_numbered_and_come_back(tmp_path):
    film = make_film(tmp_path / "film.mp4", count=2)
    out = result_path(tmp_path / "out", "film", film)
    write_labels(labels_of((2, 32, 48)), out, film)
    assert [p.name for p in sorted((out / "masks").iterdir())] == ["00000.png", "00001.png"]
    assert read_labels(out / "masks").labels.tolist() == labels_of((2, 32, 48)).labels.tolist()


def test_two_runs_write_the_same_bytes(tmp_path):
    frames = make_frames(tmp_path / "seq" / "frames", shape=(32, 48))
    for run in ("a", "b"):
        write_labels(labels_of((3, 32, 48)), tmp_path / run / "seq", frames)
    one, other = (tmp_path / run / "seq_overlay.mp4" for run in ("a", "b"))
    assert one.read_bytes() == other.read_bytes()


def test_odd_sizes_lose_a_line_in_the_overlay_only(tmp_path):
    frames = make_frames(tmp_path / "seq" / "frames", shape=(33, 49))
    write_labels(labels_of((3, 33, 49)), tmp_path / "o" / "seq", frames)
    assert read_image(tmp_path / "o" / "seq_overlay.mp4").voxels.shape == (3, 32, 48, 3)
    assert read_labels(tmp_path / "o" / "seq" / "masks").labels.shape == (3, 33, 49)


def test_labels_of_another_number_of_frames_are_not_written(tmp_path):
    frames = make_frames(tmp_path / "frames")
    with pytest.raises(GeometryMismatch, match=r"labels are \(2, 4, 6\)"):
        write_labels(labels_of((2, 4, 6)), tmp_path / "o", frames)


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_truncated_film_is_refused(tmp_path, suffix):
    path = make_film(tmp_path / f"t{suffix}", count=30)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableFile, match="truncated"):
        read_image(path)
