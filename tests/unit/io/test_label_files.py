import json

import numpy as np
import pytest

from unprompted.errors import DataRefused, LabelRefused
from unprompted.io.labels import as_labels, read_label_names, write_label_names


def test_label_names_are_written_with_their_colours_and_come_back(tmp_path):
    path = write_label_names(tmp_path, {2: "spleen", 1: "Leber, groß"})
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "1": {"name": "Leber, groß", "colour": "#e69f00"},
        "2": {"name": "spleen", "colour": "#56b4e9"},
    }
    assert read_label_names(tmp_path) == {1: "Leber, groß", 2: "spleen"}


def test_plain_names_by_value_are_read_too(tmp_path):
    (tmp_path / "labels.json").write_text('{"0": "background", "3": "lesion"}')
    assert read_label_names(tmp_path) == {3: "lesion"}


def test_a_folder_without_names_has_none(tmp_path):
    assert read_label_names(tmp_path) is None


@pytest.mark.parametrize(
    "content", ["{", '["liver"]', '{"liver": 1}', '{"1": {"colour": "red"}}', '{"1": 2}']
)
def test_names_of_another_form_are_refused(tmp_path, content):
    (tmp_path / "labels.json").write_text(content)
    with pytest.raises(DataRefused, match=r"labels\.json"):
        read_label_names(tmp_path)


def test_booleans_are_labels():
    assert as_labels(np.array([True, False]), "m").tolist() == [1, 0]


def test_complex_numbers_are_no_labels():
    with pytest.raises(LabelRefused, match="complex"):
        as_labels(np.array([1j]), "m")
