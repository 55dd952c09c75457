"""The example of docs/datasets.md, taken from the page: one file and one line."""

import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import unprompted.datasets
from unprompted.evaluation.episodes import Draw, draw_episode
from unprompted.evaluation.recipe import Recipe, cells_of
from unprompted.registry import DATASETS

PAGE = Path(__file__).parents[3] / "docs" / "datasets.md"


@pytest.fixture
def added(tmp_path, monkeypatch):
    """The page's file beside ours, and its line in the registry."""
    file, line = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    (tmp_path / "phantom.py").write_text(file)
    monkeypatch.setattr(unprompted.datasets, "__path__", [*unprompted.datasets.__path__, str(tmp_path)])
    (name, path), *others = re.findall(r'"([^"]+)": "([^"]+)"', line)
    assert not others
    monkeypatch.setattr(DATASETS, "_own", DATASETS._own | {name: path})


@pytest.fixture
def scans(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    for case in ("a1", "a2", "b1", "b2", "c1", "c2"):
        labels = np.zeros((8, 8, 4), np.uint8)
        labels[1:3], labels[5:7] = 1, 2
        nib.save(nib.Nifti1Image(labels * 50, np.eye(4)), folder / f"scan-{case}.nii.gz")
        nib.save(nib.Nifti1Image(labels, np.eye(4)), folder / f"rods-{case}.nii.gz")
    return folder


def test_one_file_and_one_line_add_a_dataset(added, scans):
    dataset = DATASETS.load("phantom")(root=scans)
    assert dataset.cases() == ("a1", "a2", "b1", "b2", "c1", "c2")
    _, labels = dataset.load("b1")
    assert labels.classes == {1: "thin rod", 2: "thick rod"}
    assert set(np.unique(labels.labels)) == {0, 1, 2}
    episode = draw_episode(dataset, Draw(shots=1))
    assert (episode.support, episode.queries) == (("a1",), ("b1", "b2", "c1", "c2"))


def test_the_new_dataset_can_be_named_in_a_recipe(added, scans):
    from unprompted.evaluation.cells import dataset_of

    recipe = Recipe(
        title="Rods",
        datasets=({"name": "rods", "kind": "phantom", "path": "scans"},),
        methods=({"peer": "registration"},),
    )
    (cell,) = cells_of(recipe, scans.parent)
    assert len(dataset_of(cell).cases()) == 6
