"""Results of DICOM series under review: corrected in the form in which they were written."""

import numpy as np
import pydicom
import pytest
from fastapi.testclient import TestClient

from dicoms import PLANES, errors_of, write_series
from unprompted.apps.batch.keep import Sources
from unprompted.apps.review.review import Review
from unprompted.apps.review.server import application
from unprompted.images import LabelMap
from unprompted.io.base import read_image, read_labels, write_labels

SHAPE = (4, 16, 18)


@pytest.fixture
def ward(tmp_path):
    """support/ with a SEG, queries/ with two series of one folder."""
    series = write_series(tmp_path / "support" / "p1" / "ct", PLANES["coronal"], SHAPE, seed=5)
    grid = read_image(series.folder).grid
    labels = np.zeros(grid.shape, np.uint8)
    labels[:, 4:12, 4:12] = 1
    write_labels(LabelMap(labels, grid, {1: "liver"}), tmp_path / "support" / "p1" / "seg.dcm", series.folder)
    for number in (1, 2):
        folder = tmp_path / "queries" / "study" / str(number)
        write_series(folder, PLANES["coronal"], SHAPE, seed=number, SeriesNumber=number)
    return tmp_path


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        ("auto", "BINARY"),
        ("dicom-labelmap", "LABELMAP"),
        ("dicom-fractional", "BINARY"),
        ("dicom-rtstruct", "RTSTRUCT"),
        ("nifti", None),
    ],
)
def test_a_slice_of_a_series_is_corrected_in_the_object_that_was_written(call, fast, ward, form, kind):
    out = ward / "out"
    ended = call(
        "segment", "-s", ward / "support", "-i", ward / "queries", "-o", out, *fast,
        "--review", "--no-refine", "--format", form, "--series", "2",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    review = Review(out, Sources.of(out), "cpu")
    page = TestClient(application(review, "127.0.0.1", None), base_url="http://127.0.0.1")
    (case,) = page.get("/api/review").json()["cases"]
    told = page.get(f"/api/cases/{case['id']}").json()
    assert (told["shape"], told["directions"]) == ([4, 16, 18], "AIL")  # coronal, front to back, feet down
    drawn = np.zeros((16, 18), np.uint8)
    drawn[2:5, 3:9] = 1
    path = f"/api/cases/{case['id']}/slices/1"
    assert page.put(path, content=drawn.tobytes(), headers={"If-Match": '"0"'}).status_code == 200
    review.close()

    (result,) = [path for path in out.iterdir() if path.suffix in (".dcm", ".gz")]
    image = read_image(ward / "queries" / "study" / "2")
    assert (read_labels(result, image.grid).sliced_along("A").labels[1] == drawn).all()
    if kind is not None:
        header = pydicom.dcmread(result)
        assert header.get("SegmentationType", header.Modality) == kind
        assert errors_of(result) == []
    again = Review(out, Sources.of(out), "cpu")
    (key,) = again.store.names
    assert (again.opened(key).labels.labels[1] == drawn).all()
    again.close()
