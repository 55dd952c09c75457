import av
import numpy as np
import pytest
from PIL import Image

import unprompted.io.film as film_module
from unprompted.io.film import film, frames_of_folder
from unprompted.slices import OnDemand

COUNT, SHAPE = 60, (32, 48)
CODECS = [(".mp4", "mpeg4"), (".avi", "mpeg4"), (".mkv", "libx264"), (".mp4", "libx264")]


def make_film(path, codec):
    """Noise that moves, a key frame every 12 frames and frames told by later ones in between."""
    source = np.random.default_rng(0).integers(0, 255, (*SHAPE, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = *SHAPE, "yuv420p"
        stream.codec_context.gop_size, stream.codec_context.max_b_frames = 12, 2
        for t in range(COUNT):
            pixels = np.roll(source // 2 + t, t, axis=1).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(params=CODECS, ids=" ".join)
def whole_and_lazy(request, tmp_path, monkeypatch):
    suffix, codec = request.param
    if codec not in av.codecs_available:
        pytest.skip(f"this build of ffmpeg has no {codec}")
    path = make_film(tmp_path / f"film{suffix}", codec)
    whole = film(path)
    monkeypatch.setattr(film_module, "HELD_BYTES", 20 * SHAPE[0] * SHAPE[1] * 3)
    return whole, film(path)


def test_frames_on_demand_are_those_of_the_whole_film_forwards_and_backwards(whole_and_lazy):
    whole, lazy = whole_and_lazy
    assert isinstance(whole, np.ndarray)
    assert isinstance(lazy, OnDemand)
    assert (lazy.shape, len(lazy)) == ((COUNT, *SHAPE, 3), COUNT)
    starts = range(0, COUNT, 8)
    for start in (*starts, *reversed(starts), 30, 3, 59, 58):
        np.testing.assert_array_equal(lazy[start : start + 8], whole[start : start + 8])


def test_a_walk_over_the_film_decodes_no_frame_twice(whole_and_lazy, monkeypatch):
    _, lazy = whole_and_lazy
    decoded, pixels = [], film_module._pixels
    monkeypatch.setattr(film_module, "_pixels", lambda frame: decoded.append(frame.pts) or pixels(frame))
    for start in range(0, COUNT, 8):
        assert len(lazy[start : start + 8]) == min(8, COUNT - start)
    assert len(decoded) == len(set(decoded)) == COUNT


@pytest.mark.parametrize("colour", [None, 3])
def test_a_folder_of_many_frames_is_read_on_demand(tmp_path, monkeypatch, colour):
    files = [tmp_path / f"{t:02d}.png" for t in range(6)]
    for t, file in enumerate(files):
        shape = (8, 10, 3) if t == colour else (8, 10)
        Image.fromarray(np.full(shape, 20 * t, np.uint8)).save(file)
    whole = frames_of_folder(files, tmp_path)
    monkeypatch.setattr(film_module, "HELD_BYTES", 0)
    lazy = frames_of_folder(files, tmp_path)
    assert isinstance(lazy, OnDemand)
    assert lazy.shape == whole.shape == ((6, 8, 10) if colour is None else (6, 8, 10, 3))
    np.testing.assert_array_equal(lazy[1:5], whole[1:5])
    np.testing.assert_array_equal(lazy[5], whole[5])
