from itertools import pairwise

import pytest
import torch

from unprompted.datasets.synthetic import Synthetic
from unprompted.errors import UsageError
from unprompted.training.rendering import RENDERERS
from unprompted.training.synth import SynthSettings, episode, subject_volume

SMALL = SynthSettings(size=40, supports=(2, 2), queries=3, classes=(1, 3))


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads on such small pictures only wait for each other
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def episodes():
    return [episode(SMALL, seed) for seed in range(12)]


def test_the_same_seed_gives_equal_tensors(episodes):
    again = episode(SMALL, 5)
    assert torch.equal(again.pixels, episodes[5].pixels)
    assert torch.equal(again.masks, episodes[5].masks)


def test_different_seeds_give_different_pictures(episodes):
    for one, other in pairwise(episodes):
        assert not torch.equal(one.pixels, other.pixels)


def test_pictures_are_float_in_0_to_1_and_masks_bool(episodes):
    for given in episodes:
        assert given.pixels.shape == (5, 3, 40, 40)
        assert given.pixels.dtype == torch.float32
        assert float(given.pixels.min()) >= 0
        assert float(given.pixels.max()) <= 1
        assert given.masks.shape == (5, given.masks.shape[1], 40, 40)
        assert given.masks.dtype == torch.bool
        assert given.supports == 2


def test_no_picture_sequence_is_blank(episodes):
    assert all(float(given.pixels.std()) > 0.01 for given in episodes)


def test_every_class_is_visible_in_support_and_in_query(episodes):
    for given in episodes:
        seen = given.masks.flatten(2).any(-1)
        assert seen[: given.supports].any(0).all()
        assert seen[given.supports :].any(0).all()


def test_classes_do_not_overlap(episodes):
    assert all(int(given.masks.sum(1).max()) == 1 for given in episodes)


def test_support_and_query_are_different_subjects(episodes):
    for given in episodes:
        support, query = given.masks[: given.supports], given.masks[given.supports :]
        assert not (support[:, None] == query[None]).flatten(2).all(-1).any()


def test_all_modalities_occur(episodes):
    assert {given.modality for given in episodes} == set(RENDERERS)


def test_shares_decide_the_kind_of_episode():
    every = {"size": 32, "supports": (1, 1), "queries": 2, "classes": (1, 1)}
    assert episode(SynthSettings(**every, rgb_share=1), 0).modality == "rgb"
    assert episode(SynthSettings(**every, video_share=1, single_share=0), 0).kind == "video"
    assert episode(SynthSettings(**every, video_share=0, single_share=1), 0).kind == "single"
    assert episode(SynthSettings(**every, video_share=0, single_share=0), 0).kind == "volume"


@pytest.mark.parametrize(("supports", "queries", "classes"), [(1, 1, 1), (4, 2, 2), (2, 5, 4)])
def test_counts_are_as_asked(supports, queries, classes):
    asked = SynthSettings(size=32, supports=(supports,) * 2, queries=queries, classes=(classes,) * 2)
    for seed in range(3):
        given = episode(asked, seed)
        assert given.supports == supports
        assert given.masks.shape == (supports + queries, classes, 32, 32)


def test_counts_stay_within_a_span():
    asked = SynthSettings(size=32, supports=(1, 3), queries=(1, 4), classes=(1, 2))
    for seed in range(4):
        given = episode(asked, seed)
        assert 1 <= given.supports <= 3
        assert 1 <= len(given.masks) - given.supports <= 4


@pytest.mark.parametrize("wrong", [{"supports": (0, 2)}, {"classes": (3, 1)}, {"size": 8}, {"queries": 0}])
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match=r"give|size"):
        SynthSettings(**wrong)


def test_the_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    episode(SMALL, 1)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_an_episode_is_made_on_the_gpu():
    given = episode(SMALL, 1, "cuda")
    assert given.pixels.device.type == given.masks.device.type == "cuda"


def test_two_patients_of_one_anatomy_share_label_values_but_not_shape():
    image, labels = subject_volume(3, 1, (12, 40, 48), classes=3)
    other_image, other = subject_volume(3, 2, (12, 40, 48), classes=3)
    assert image.shape == labels.shape == (12, 40, 48)
    assert (image.dtype, labels.dtype) == (torch.float32, torch.uint8)
    assert labels.unique().tolist() == other.unique().tolist() == [0, 1, 2, 3]
    assert not torch.equal(labels, other)
    assert not torch.equal(image, other_image)


def test_a_patient_is_the_same_on_every_call():
    first, again = subject_volume(3, 1, (6, 32, 32)), subject_volume(3, 1, (6, 32, 32))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])


@pytest.mark.parametrize("modality", ["ct", "mr"])
def test_generated_cases_load_as_volumes_with_named_organs(modality):
    dataset = Synthetic(count=2, modality=modality)
    assert list(dataset.cases()) == ["patient-01", "patient-02"]
    volume, labels = dataset.load("patient-02")
    assert volume.name == "patient-02"
    assert volume.voxels.shape == (24, 96, 96)
    assert volume.grid.same_space(labels.grid)
    assert volume.grid.spacing == (3.0, 1.0, 1.0)
    assert volume.grid.directions == "SPL"
    assert set(labels.labels.ravel().tolist()) == {0, *dataset.classes}


def test_an_unknown_generated_case_is_refused():
    with pytest.raises(UsageError, match="patient-99"):
        Synthetic().load("patient-99")
