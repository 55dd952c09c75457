import csv
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from unprompted.backbones.tiny import random_model
from unprompted.errors import UsageError
from unprompted.training.pretrain import Episodes, learning_rate_at, pretrain
from unprompted.training.recipes import RECIPES, Stage

TEST = RECIPES["test"]


@pytest.fixture(autouse=True)
def _single_thread(single_thread):
    pass


def rows_of(folder):
    with (folder / "log.csv").open() as file:
        return list(csv.DictReader(file))


def content_of(checkpoint):
    return torch.load(checkpoint, weights_only=True)


def run(recipe, folder, **how):
    return pretrain(recipe, folder, held_out_batches=1, **how)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, single_thread):
    """The test recipe in one go, and what it reported."""
    folder = tmp_path_factory.mktemp("pretrain")
    reported = []
    checkpoint = run(TEST, folder, checkpoint_every=4, report=reported.append)
    return folder, checkpoint, reported


def test_a_run_leaves_a_checkpoint_and_a_log(trained):
    folder, checkpoint, reported = trained
    assert checkpoint == folder / "checkpoint.pt"
    assert content_of(checkpoint)["step"] == TEST.steps
    assert [int(row["step"]) for row in rows_of(folder)] == [4, 8, 12]
    assert [row["step"] for row in reported] == [4, 8, 12]
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint.pt", "log.csv"]


def test_the_checkpoint_is_tensors_and_numbers_and_the_weights_are_finite(trained):
    content = content_of(trained[1])
    assert content["model"].keys() == content["average"].keys()
    assert all(torch.isfinite(value).all() for value in content["average"].values())


def test_the_averaged_weights_follow_the_weights(trained):
    content = content_of(trained[1])
    name = "memory_attention.layers.0.linear1.weight"
    assert not torch.equal(content["average"][name], content["model"][name])
    assert float((content["average"][name] - content["model"][name]).abs().max()) < 0.1


def test_a_finished_run_has_nothing_left_to_do(trained):
    folder, checkpoint, _ = trained
    before = checkpoint.read_bytes()
    reported = []
    run(TEST, folder, report=reported.append)
    assert reported == []
    assert checkpoint.read_bytes() == before


def test_a_run_that_was_stopped_and_resumed_gives_the_same_weights(trained, tmp_path):
    expected = content_of(trained[1])
    run(TEST, tmp_path, until=5)
    assert content_of(tmp_path / "checkpoint.pt")["step"] == 5
    resumed = content_of(run(TEST, tmp_path))
    for part in ("model", "average"):
        assert all(torch.equal(resumed[part][name], expected[part][name]) for name in expected[part])
    moments, wanted = resumed["optimiser"]["state"], expected["optimiser"]["state"]
    assert all(torch.equal(moments[i]["exp_avg_sq"], wanted[i]["exp_avg_sq"]) for i in wanted)


def saved_weights(path, seed):
    """A safetensors file of random weights in the recipe's shape, and those weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        weights = random_model(TEST.shape).state_dict()
    save_file({name: value.contiguous() for name, value in weights.items()}, path)
    return weights


def test_a_run_starts_from_given_weights(tmp_path):
    given = saved_weights(tmp_path / "given.safetensors", seed=7)
    still = replace(TEST, learning_rate=0.0)
    content = content_of(run(still, tmp_path, until=1, initial=tmp_path / "given.safetensors"))
    assert all(torch.equal(content["model"][name], given[name]) for name in given)
    assert all(torch.equal(content["average"][name], given[name]) for name in given)


def test_a_run_that_goes_on_keeps_its_own_weights(tmp_path):
    saved_weights(tmp_path / "other.safetensors", seed=8)
    still = replace(TEST, learning_rate=0.0)
    begun = content_of(run(still, tmp_path, until=1))
    resumed = content_of(run(still, tmp_path, until=2, initial=tmp_path / "other.safetensors"))
    assert resumed["step"] == 2
    assert all(torch.equal(resumed["model"][name], begun["model"][name]) for name in begun["model"])


def test_weights_that_cannot_be_started_from_are_refused(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        run(TEST, tmp_path / "run", initial=tmp_path / "absent.safetensors")
    save_file({"a": torch.zeros(2)}, tmp_path / "small.safetensors")
    with pytest.raises(UsageError, match="holds another model than the recipe"):
        run(TEST, tmp_path / "run", initial=tmp_path / "small.safetensors")


@pytest.mark.parametrize("change", [{"seed": 1}, {"smallest": (0.01, 0.02)}, {"learning_rate": 1e-4}])
def test_a_checkpoint_of_another_recipe_is_refused(trained, change):
    folder, checkpoint, _ = trained
    before = checkpoint.read_bytes()
    with pytest.raises(UsageError, match="belongs to another recipe; give an empty folder"):
        run(replace(TEST, **change), folder)
    assert checkpoint.read_bytes() == before


def test_the_least_area_of_a_class_is_drawn_from_a_span():
    wide, narrow = replace(TEST, smallest=(0.002, 0.02)), replace(TEST, smallest=(0.002, 0.002))
    assert any(not torch.equal(Episodes(wide)[step].masks, Episodes(narrow)[step].masks) for step in range(4))


def test_a_run_resumes_across_a_change_of_size(tmp_path):
    recipe = replace(TEST, stages=(Stage(64, 2, 1), Stage(96, 2, 1)))
    run(recipe, tmp_path / "stopped", until=3)
    resumed = content_of(run(recipe, tmp_path / "stopped"))
    whole = content_of(run(recipe, tmp_path / "whole"))
    assert resumed["size"] == 96
    assert all(torch.equal(resumed["model"][name], whole["model"][name]) for name in whole["model"])
    assert [int(row["size"]) for row in rows_of(tmp_path / "whole")] == [64, 96]


def test_another_seed_gives_other_weights(trained, tmp_path):
    other = content_of(run(replace(TEST, seed=1), tmp_path, until=2))
    first = content_of(trained[1])
    assert not torch.equal(other["model"]["object_pointer_proj.proj_in.weight"],
                           first["model"]["object_pointer_proj.proj_in.weight"])  # fmt: skip


def test_training_lowers_the_loss(tmp_path):
    recipe = replace(TEST, stages=(Stage(64, 30, 2),), single_mask_share=0.0, box_share=0.0)
    run(recipe, tmp_path, checkpoint_every=10)
    first, *_, last = [float(row["loss"]) for row in rows_of(tmp_path)]
    assert last < 0.9 * first


def test_the_learning_rate_warms_up_stays_and_falls_along_half_a_cosine():
    recipe = replace(TEST, learning_rate=1.0, warmup=4, stages=(Stage(64, 20, 1),))
    rates = {step: learning_rate_at(recipe, step) for step in (0, 1, 3, 4, 12, 14, 16, 20, 99)}
    assert rates == pytest.approx(
        {
            0: 0.25, 1: 0.5, 3: 1.0,  # a quarter more each step
            4: 1.0, 12: 1.0,  # the peak until 60 % of the steps
            14: 0.855018, 16: 0.505,  # 0.01 + 0.99 (1 + cos pi/4) / 2; half way down
            20: 0.01, 99: 0.01,
        }
    )  # fmt: skip


def test_a_batch_depends_on_its_step_alone():
    first, again, other = Episodes(TEST)[5], Episodes(TEST)[5], Episodes(TEST)[6]
    assert torch.equal(first.pixels, again.pixels)
    assert torch.equal(first.masks, again.masks)
    assert not torch.equal(first.pixels, other.pixels)


def test_a_batch_has_the_layout_the_recipe_asks_for():
    batch = Episodes(replace(TEST, supports=(3, 3), classes=(2, 2), queries=4))[0]
    assert batch.supports == 3
    assert batch.pixels.shape == (2, 7, 3, 64, 64)
    assert batch.masks.shape == (2, 7, 2, 64, 64)
    assert batch.masks.dtype == torch.bool


def test_held_out_episodes_are_others():
    assert not torch.equal(Episodes(TEST, seed_offset=1 << 40)[0].pixels, Episodes(TEST)[0].pixels)


def test_the_recipe_knows_its_stages():
    recipe = replace(TEST, stages=(Stage(64, 2, 1), Stage(96, 3, 1)))
    assert recipe.steps == 5
    assert [recipe.stage_at(step).size for step in (0, 1, 2, 4, 7)] == [64, 64, 96, 96, 96]
