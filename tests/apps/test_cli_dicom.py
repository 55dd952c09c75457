"""The program on DICOM folders from end to end."""

import json

import numpy as np
import pydicom
import pytest

from dicoms import PLANES, write_series
from unprompted.images import LabelMap
from unprompted.io.base import read_image, read_labels, write_labels


@pytest.fixture
def ward(tmp_path):
    """support/ with a SEG, queries/ with two series of one study and a localizer."""
    series = write_series(tmp_path / "support" / "p1" / "ct", PLANES["coronal"], shape=(4, 16, 16), seed=5)
    grid = read_image(series.folder).grid
    labels = np.zeros(grid.shape, np.uint8)
    labels[:, 4:12, 4:12] = 1
    write_labels(LabelMap(labels, grid, {1: "liver"}), tmp_path / "support" / "p1" / "seg.dcm", series.folder)
    shape = (4, 16, 16)
    write_series(tmp_path / "queries" / "a", PLANES["coronal"], shape, seed=1, SeriesNumber=1)
    write_series(tmp_path / "queries" / "b", PLANES["coronal"], shape, seed=2, SeriesNumber=2)
    write_series(
        tmp_path / "queries" / "scout", shape=(1, 16, 16), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
    )
    return tmp_path


def test_every_series_gets_a_seg_and_a_rerun_finds_it_finished(call, fast, ward):
    words = ("segment", "-s", ward / "support", "-i", ward / "queries", "-o", ward / "out", *fast)
    ended = call(*words)
    assert ended.code == 0, ended.err
    assert sorted(f.name for f in (ward / "out").glob("*.dcm")) == ["a.dcm", "b.dcm"]
    back = read_labels(ward / "out" / "a.dcm", read_image(ward / "queries" / "a").grid)
    assert back.classes == {1: "liver"}
    everything = json.loads((ward / "out" / "run.json").read_text())
    assert "Secret" not in json.dumps(everything) + ended.out + ended.err
    again = call(*words)
    assert "2 of 2 cases are finished already" in again.out


def test_one_series_is_segmented_in_the_form_asked_for(call, fast, ward):
    ended = call(
        "segment", "-s", ward / "support", "-i", ward / "queries", "-o", ward / "out", *fast,
        "--series", "2", "--format", "dicom-fractional",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    (made,) = (ward / "out").glob("*.dcm")
    assert made.name == "b.dcm"
    assert pydicom.dcmread(made).SegmentationType == "FRACTIONAL"


def test_a_form_that_does_not_exist_is_refused(call, fast, ward):
    ended = call(
        "segment", "-s", ward / "support", "-i", ward / "queries", "-o", ward / "out", "--format", "pdf"
    )
    assert ended.code == 2
    assert "known: auto, nifti, dicom-seg" in ended.err
