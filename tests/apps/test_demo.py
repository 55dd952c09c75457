import json

import pytest

from unprompted.apps.batch.choices import ModelChoice, Unwatched
from unprompted.apps.batch.demo import demonstrate
from unprompted.backbones import shipped
from unprompted.datasets.synthetic import Synthetic
from unprompted.io.base import read_labels


@pytest.fixture
def quick(tiny_model_folder):
    return ModelChoice("sam2-mask", {"supports": 1}, str(tiny_model_folder), device="cpu")


def test_the_demo_leaves_data_masks_scores_and_a_picture(quick, tmp_path):
    from PIL import Image

    made = demonstrate(tmp_path / "demo", quick, Unwatched(), Synthetic(count=4))
    assert sorted(p.name for p in (made.folder / "support" / "images").iterdir()) == [
        "patient-01.nii.gz",
        "patient-02.nii.gz",
        "patient-03.nii.gz",
    ]
    assert [p.name for p in (made.folder / "queries").iterdir()] == ["patient-04.nii.gz"]
    assert read_labels(made.folder / "masks" / "patient-04.nii.gz").classes == Synthetic().classes
    summary = json.loads((made.folder / "summary.json").read_text())
    assert list(summary["mean"]) == ["1", "2", "3", "4", "5"]
    with Image.open(made.picture) as picture:
        assert picture.width > 3 * 300


def test_a_folder_of_something_else_is_left_alone(call, fast, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    ended = call("demo", "-o", tmp_path, *fast)
    assert ended.code == 2
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.slow
@pytest.mark.skipif(shipped.folder() is None, reason="the built-in weights are not in this checkout")
def test_the_built_in_model_finds_the_organs_of_the_demo(single_thread, tmp_path):
    """Far above what a random model reaches (0.07)."""
    model = ModelChoice(settings={"epochs": 4}, device="cpu")
    made = demonstrate(tmp_path / "demo", model, Unwatched(), Synthetic(count=4))
    assert made.summary["foreground_mean"]["Dice"] > 0.4
