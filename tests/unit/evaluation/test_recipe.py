from pathlib import Path

import pytest

from unprompted.errors import UsageError
from unprompted.evaluation.recipe import cells_of, read_recipe
from unprompted.registry import PEERS

RECIPES = Path(__file__).parents[3] / "benchmarks"
TEXT = """
title = "Two sets"
shots = [1, 3]
seeds = [0, 1]
queries = 6

[[datasets]]
name = "heart"
path = "acdc"
shots = [2]
settings = {patient_pattern = "^acdc_[0-9]+"}

[[datasets]]
name = "blood"
path = "wbc"

[[methods]]
method = "sam2-mask"

[[methods]]
name = "quick net"
peer = "unet-2d"
settings = {minutes = 1}
datasets = ["blood"]
"""


@pytest.fixture
def written(tmp_path):
    def write(text):
        (tmp_path / "recipe.toml").write_text(text)
        return tmp_path / "recipe.toml"

    return write


def test_the_matrix_is_dataset_by_shots_by_seed_by_method(written):
    cells = list(cells_of(read_recipe(written(TEXT)), Path("/data")))
    found = [(c.dataset.name, c.method.label, c.backbone, c.draw.shots, c.draw.seed) for c in cells]
    assert found[:2] == [
        ("heart", "sam2-mask", "builtin", 2, 0),
        ("heart", "sam2-mask", "builtin", 2, 1),
    ]
    assert found[2:6] == [
        ("blood", "sam2-mask", "builtin", 1, 0),
        ("blood", "quick net", "none", 1, 0),
        ("blood", "sam2-mask", "builtin", 1, 1),
        ("blood", "quick net", "none", 1, 1),
    ]
    assert len(found) == 2 + 8
    assert cells[0].root == Path("/data/acdc")
    assert cells[0].draw.queries == 6


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("shots = [1, 3]", "shot = [1]"), "shot: Extra inputs"),
        (('method = "sam2-mask"', 'method = "sam3"'), "no method is called 'sam3'"),
        (('peer = "unet-2d"', 'peer = "unet"'), "no peer is called 'unet'; known: registration"),
        (('peer = "unet-2d"', 'peer = "unet-2d"\nviews = ["axes"]'), "for our own methods"),
        (('peer = "unet-2d"', 'peer = "unet-2d"\nadapters = "sam2-mask"'), "for our own methods"),
        (('method = "sam2-mask"', 'method = "sam2-mask"\nadapters = "quick net"'), "there are none"),
        (('method = "sam2-mask"', 'method = "sam2-mask"\nadapters = "x"\nadapt_s = 1'), "used as they are"),
        (('name = "blood"', 'name = "heart"'), "two entries are called heart"),
        (('datasets = ["blood"]', 'datasets = ["bone"]'), "no dataset is called bone"),
        (("title", "= title"), "Invalid"),
    ],
)
def test_what_a_recipe_cannot_say_is_refused_with_its_place(written, change, said):
    with pytest.raises(UsageError, match=r"recipe\.toml") as refused:
        read_recipe(written(TEXT.replace(*change)))
    assert said in str(refused.value)


@pytest.mark.parametrize("recipe", sorted(RECIPES.rglob("*.toml")), ids=lambda path: path.stem)
def test_every_recipe_of_ours_can_be_read(recipe):
    assert list(cells_of(read_recipe(recipe), Path("/data")))


def test_peers_are_no_methods_of_the_product():
    from unprompted.registry import METHODS

    assert not set(PEERS) & set(METHODS)
