"""What a run may hold in memory, and what it holds."""

import tracemalloc

import numpy as np
import pytest
import torch

import unprompted.slices as slices_module
from builders import make_grid, make_subject
from fakes import FakeBackbone
from seeing import SeeingBackbone, Threshold
from unprompted.apps.batch.memory import bytes_of, limited
from unprompted.backbones.weights import read_checkpoint
from unprompted.errors import OutOfMemory, UsageError
from unprompted.images import LabelMap, Volume
from unprompted.io.base import read_image, write_labels
from unprompted.io.nifti import write_volume
from unprompted.io.overlay import overlay_png
from unprompted.segmenter import FittedSegmenter, Segmenter

MIB = 1 << 20


def striped(depth, side=64):
    """Bright and dark rows; ``(depth, side, side)``."""
    rows = np.arange(side)[:, None] // 8 % 2 * 200 + np.zeros((depth, 1, side))
    return Volume(rows.astype(np.float32), make_grid((depth, side, side), (1, 1, 1)))


def traced_peak(task, path, folder):
    """MiB that arrays take at most while one case is read, segmented and written."""
    tracemalloc.start()
    volume = read_image(path)
    found = task.segment(volume)
    write_labels(found.labels, folder / "found.nii.gz", path)
    overlay_png(volume, found.labels, folder / "found.png", task.intensity)
    found.labels.counts()
    peak = tracemalloc.get_traced_memory()[1] / MIB
    tracemalloc.stop()
    return peak


def test_what_is_held_does_not_grow_with_the_slices_of_a_case(tmp_path, monkeypatch, single_thread):
    monkeypatch.setattr(slices_module, "HELD_BYTES", MIB // 4)
    monkeypatch.setattr(slices_module, "_BLOCK_BYTES", MIB // 4)
    case = striped(4)
    labels = LabelMap((case.voxels > 100).astype(np.uint8), case.grid, {1: "bright"})
    task = Segmenter(Threshold(), SeeingBackbone()).fit([(case, labels)])
    peaks = []
    for depth in (40, 600):  # as float32 0.6 and 9.4 MiB, labels and confidence 0.5 and 7 MiB
        write_volume(striped(depth), tmp_path / f"{depth}.nii.gz")
        peaks.append(traced_peak(task, tmp_path / f"{depth}.nii.gz", tmp_path))
    assert peaks[1] - peaks[0] < 1.5


@pytest.mark.parametrize(
    ("text", "expected"),
    [("4GB", 4 << 30), ("800 MiB", 800 << 20), ("1.5g", 3 << 29), ("1048576", 1 << 20), (None, None)],
)
def test_sizes_are_read_as_people_write_them(text, expected):
    assert bytes_of(text) == expected


@pytest.mark.parametrize("text", ["", "much", "-4GB", "0", "4XB"])
def test_other_sizes_are_refused(text):
    with pytest.raises(UsageError, match="4GB or 800MB"):
        bytes_of(text)


def test_a_limit_below_what_a_run_needs_ends_with_one_clear_error(call, case_folder, fast, tmp_path):
    words = ("segment", "-s", case_folder / "support", "-i", case_folder / "queries", "-o", tmp_path / "out")
    ended = call(*words, *fast, "--no-refine", "--max-memory", "10MB")
    assert ended.code == 2
    assert "raise it by" in ended.err
    assert not list((tmp_path / "out").glob("*.nii.gz"))


def test_a_limit_with_room_gives_the_same_bytes(call, case_folder, fast, tmp_path):
    made = {}
    for name, more in (("free", ()), ("bounded", ("--max-memory", "64GB"))):
        words = ("-s", case_folder / "support", "-i", case_folder / "queries", "-o", tmp_path / name)
        assert call("segment", *words, *fast, "--no-refine", *more).code == 0
        made[name] = {path.name: path.read_bytes() for path in sorted((tmp_path / name).glob("*.nii.gz"))}
    assert made["free"] == made["bounded"]
    assert len(made["free"]) == 2


def test_weights_that_do_not_fit_a_limit_are_not_told_to_be_damaged(tmp_path):
    torch.save({"model": {"large": torch.zeros(128 * MIB // 4)}}, tmp_path / "sound.pt")
    with pytest.raises(OutOfMemory, match="not enough memory; raise --max-memory"), limited(1):
        read_checkpoint(tmp_path / "sound.pt")
    assert read_checkpoint(tmp_path / "sound.pt").keys() == {"large"}


def test_a_task_that_does_not_fit_a_limit_is_not_told_to_be_damaged(tmp_path, single_thread):
    image, labels = make_subject((1, 2048, 4096), 1)
    Segmenter("sam2-mask", FakeBackbone()).fit([(image, labels)]).save(tmp_path)
    with pytest.raises(OutOfMemory, match="not enough memory; raise --max-memory"), limited(1):
        FittedSegmenter.load(tmp_path, FakeBackbone())
    assert FittedSegmenter.load(tmp_path, FakeBackbone()).support.classes == labels.classes
