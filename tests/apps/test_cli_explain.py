import csv

import numpy as np
import pytest
from PIL import Image

from builders import make_example, make_subject
from unprompted.apps.batch.explain import FIELDS, write_explanation
from unprompted.intensity import Intensity
from unprompted.prediction import Chosen, Prediction
from unprompted.support import SupportSet

WORDS = ("--method", "fate-sam", "--set", "retrieved=2", "--quiet")


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def explained(call, case_folder, tiny_model_folder, tmp_path):
    out = tmp_path / "out"
    words = ("segment", "-s", case_folder / "support", "-i", case_folder / "queries", "-o", out)
    assert call(*words, "--backbone", tiny_model_folder, *WORDS, "--explain").code == 0
    return out


def test_every_slice_is_told_with_the_support_it_was_given(explained):
    assert sorted(path.name for path in (explained / "explain").iterdir()) == [
        "query-3.csv", "query-3.png", "query-4.csv", "query-4.png",
    ]  # fmt: skip
    rows = rows_of(explained / "explain" / "query-3.csv")
    assert [(row["slice"], row["class"], row["rank"]) for row in rows] == [
        (str(number), name, rank)
        for number in range(1, 7)
        for name in ("organ 1", "organ 2")
        for rank in ("1", "2")
    ]
    assert {row["support_case"] for row in rows} <= {"labelled-1", "labelled-2"}
    assert {int(row["support_slice"]) for row in rows} <= set(range(1, 7))
    assert {row["copy"] for row in rows} == {"0"}
    assert all(float(row["score"]) < 0 for row in rows)


def test_nothing_is_explained_unless_asked_for_and_where_nothing_is_chosen(call, case_folder, fast, tmp_path):
    words = ("segment", "-s", case_folder / "support", "-i", case_folder / "queries", "-o")
    assert call(*words, tmp_path / "plain", *fast).code == 0
    ended = call(*words, tmp_path / "asked", *fast, "--explain")
    assert ended.code == 0
    assert ended.out.count("nothing to explain") == 1
    assert not (tmp_path / "plain" / "explain").exists()
    assert not (tmp_path / "asked" / "explain").exists()


def explain_one(folder, chosen):
    """A query of two slices; support case "a" holds class 1 at slice 4 and classes 1 and 2 at slice 9."""
    volume, labels = make_subject((2, 40, 40), 2, name="query")
    image, marks = np.full((20, 20), 90), np.zeros((2, 20, 20))
    image[:10] = 10
    marks[:, 5:15, 5:10] = 1
    marks[1, 5:15, 12:18] = 2
    examples = (make_example(image, marks[0], "a", 4), make_example(image, marks[1], "a", 9))
    support = SupportSet(examples, {1: "liver", 2: "spleen"})
    prediction = Prediction(labels, None, None, None, chosen)
    write_explanation(folder, volume, labels, prediction, support, Intensity("percentile", 0.5, 99.5))
    return folder / "query.csv", folder / "query.png"


def test_ranks_count_within_a_class_and_slices_from_one(tmp_path):
    chosen = {1: (Chosen(0, 0, 9, -0.5), Chosen(0, 0, 4, -0.75, copy=3), Chosen(1, 0, 9, -0.5))}
    table, _ = explain_one(tmp_path, chosen)
    assert table.read_text().splitlines() == [
        ",".join(FIELDS),
        "query,2,liver,1,a,10,0,-0.5",
        "query,2,liver,2,a,5,3,-0.75",
        "query,2,spleen,1,a,10,0,-0.5",
    ]


def test_the_picture_has_a_column_for_every_support_of_a_slice(tmp_path):
    one = {0: (Chosen(0, 0, 9, 1.0),), 1: (Chosen(0, 0, 9, 1.0),)}
    two = {0: (Chosen(0, 0, 9, 1.0), Chosen(1, 0, 9, 1.0), Chosen(0, 0, 4, 0.5)), 1: ()}
    with Image.open(explain_one(tmp_path / "one", one)[1]) as picture:
        narrow = picture.width
    with Image.open(explain_one(tmp_path / "two", two)[1]) as picture:
        assert picture.width == narrow + 250


def test_a_support_shows_the_classes_it_was_chosen_for(tmp_path):
    def spleen_pixels(chosen, name):
        with Image.open(explain_one(tmp_path / name, {0: chosen, 1: ()})[1]) as picture:
            right = np.asarray(picture.convert("RGB"))[44:300, 262:500]  # the first support of slice 1
        return int((right == (86, 180, 233)).all(axis=-1).sum())

    assert spleen_pixels((Chosen(0, 0, 9, 1.0),), "liver") == 0
    assert spleen_pixels((Chosen(0, 0, 9, 1.0), Chosen(1, 0, 9, 1.0)), "both") > 0
