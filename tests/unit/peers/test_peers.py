"""Peers on bright boxes: they learn what can be learned, say so, and refuse what they cannot take."""

import json
import os
import stat
from dataclasses import replace

import numpy as np
import pytest

from builders import dice, make_labels, make_subject, make_volume
from unprompted.errors import UnpromptedError, UsageError
from unprompted.peers.base import label_map, only_classes
from unprompted.peers.nnunet import NnUNet
from unprompted.peers.registration import Registration
from unprompted.peers.swin_unetr import SwinUnetr
from unprompted.peers.unet_2d import UNet2D
from unprompted.peers.unet_3d import UNet3D

CLASSES = {1: "organ 1", 2: "organ 2"}


def quiet(what, done, of):
    """Nobody follows."""


def subjects(*seeds, shape=(8, 32, 32), **more):
    return [make_subject(shape, 2, seed, (3.0, 1.0, 1.0), **more) for seed in seeds]


def fitted(peer, seeds=(1, 2), seed=0, **more):
    return peer.fit(subjects(*seeds, **more), CLASSES, seed, quiet)


def test_classes_are_numbered_in_order_and_other_labels_are_background():
    labels = np.array([[[0, 3, 7, 9]]], np.uint8)
    numbers = only_classes(labels, {3: "a", 9: "b"})
    assert numbers.tolist() == [[[0, 1, 0, 2]]]
    back = label_map(numbers, make_volume((1, 1, 4)), {3: "a", 9: "b"})
    assert back.labels.tolist() == [[[0, 3, 0, 9]]]


def test_a_2d_unet_finds_bright_boxes_and_says_how_long_it_trained(single_thread):
    trained = fitted(UNet2D(minutes=5, steps=120, side=32, batch=4))
    volume, truth = subjects(3)[0]
    found = trained.segment(volume)
    assert found.grid.same_space(volume.grid)
    assert min(dice(found.labels, truth.labels, value) for value in CLASSES) > 0.7
    assert (trained.about["steps"], trained.about["ended_by"]) == (120, "steps")
    assert trained.about["loss"][-1]["loss"] < trained.about["loss"][0]["loss"]


@pytest.mark.parametrize("peer", [UNet3D, SwinUnetr])
def test_a_3d_network_trains_on_patches_and_answers_on_the_grid_of_the_query(single_thread, peer):
    trained = fitted(peer(minutes=5, steps=2, patch=32, batch=1))
    volume, _ = make_subject((6, 40, 24), 2, 5, (4.0, 1.0, 1.0))
    found = trained.segment(volume)
    assert found.labels.shape == (6, 40, 24)
    assert set(np.unique(found.labels)) <= {0, 1, 2}
    assert trained.about["patch"][0] == 32


def test_a_3d_unet_finds_bright_boxes(single_thread):
    trained = fitted(UNet3D(minutes=5, steps=200, patch=32, batch=1))
    volume, truth = subjects(3)[0]
    found = trained.segment(volume).labels
    assert dice(found > 0, truth.labels > 0, True) > 0.7


def test_the_same_seed_and_steps_train_the_same_network(single_thread):
    volume, _ = subjects(3)[0]
    peer = UNet2D(minutes=5, steps=3, side=32, batch=2)
    first, again = (fitted(peer).segment(volume).labels for _ in range(2))
    assert (first == again).all()


def test_the_clock_ends_training_too(single_thread):
    trained = fitted(UNet2D(minutes=0.0001, steps=1000, side=32, batch=1))
    assert trained.about["ended_by"] == "time"


def test_3d_networks_refuse_pictures(single_thread):
    with pytest.raises(UsageError, match=r"a 3D network takes volumes, and subject-1.* is none"):
        fitted(UNet3D(steps=1), shape=(1, 32, 32))


def blurred_subject(seed, shift):
    """One large smooth blob, moved by some voxels: something a registration can follow."""
    depth, height, width = np.ogrid[:12, :32, :32]
    middle = (6, 14 + shift, 15 + shift)
    far = ((depth - middle[0]) / 3) ** 2 + ((height - middle[1]) / 7) ** 2 + ((width - middle[2]) / 5) ** 2
    noise = np.random.default_rng(seed).normal(0, 2, far.shape)
    volume = make_volume((12, 32, 32), (2.0, 1.0, 1.0), name=f"blob-{seed}")
    voxels = (200 * np.exp(-far / 2) + noise).astype(np.float32)
    return replace(volume, voxels=voxels), make_labels((far < 1).astype(np.uint8), (2.0, 1.0, 1.0))


def test_registration_carries_the_labels_to_where_the_structure_lies():
    support, (query, truth) = blurred_subject(1, 0), blurred_subject(2, 5)
    before = dice(support[1].labels, truth.labels)
    trained = Registration().fit([support], {1: "blob"}, 0, quiet)
    found = trained.segment(query)
    assert found.grid.same_space(query.grid)
    assert dice(found.labels, truth.labels) > max(0.8, before + 0.2)


def test_registration_copies_from_the_support_case_that_fits_best():
    near, far = blurred_subject(1, 4), blurred_subject(3, 0)
    wrong = replace(far[0], voxels=np.random.default_rng(0).normal(0, 50, (12, 32, 32)).astype(np.float32))
    query, truth = blurred_subject(2, 5)
    trained = Registration().fit([(wrong, far[1]), near], {1: "blob"}, 0, quiet)
    assert dice(trained.segment(query).labels, truth.labels) > 0.8


def test_registration_takes_pictures_and_refuses_videos():
    volume, labels = make_subject((1, 48, 48), 2, 1, rgb=True)
    trained = Registration().fit([(volume, labels)], CLASSES, 0, quiet)
    assert dice(trained.segment(volume).labels, labels.labels) > 0.9
    film = make_volume((4, 32, 32), axis="t")
    with pytest.raises(UsageError, match="registration takes volumes and pictures, not videos"):
        trained.segment(film)


COMMAND = """#!/bin/sh
echo "$(basename $0) $*" >> "$LOG"
case "$(basename $0)" in
  nnUNetv2_predict) cp "$nnUNet_raw/Dataset901_Support/labelsTr/support0.nii.gz" "$4/query.nii.gz" ;;
  nnUNetv2_train) [ -z "$FAILS" ] || { echo "no memory left" >&2; exit 3; } ;;
esac
"""


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Stand-ins for nnU-Net's programs that write down how they were called."""
    for name in ("nnUNetv2_plan_and_preprocess", "nnUNetv2_train", "nnUNetv2_predict"):
        path = tmp_path / name
        path.write_text(COMMAND)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    return tmp_path / "log"


def test_nnunet_is_driven_through_its_own_commands_and_gives_back_the_grid(commands):
    trained = fitted(NnUNet(epochs=5), shape=(6, 24, 20))
    volume, truth = subjects(1, shape=(6, 24, 20))[0]
    assert (trained.segment(volume).labels == truth.labels).all()  # the stand-in copies the first support
    words = [line.split() for line in commands.read_text().splitlines()]
    assert [line[0] for line in words] == [
        "nnUNetv2_plan_and_preprocess",
        "nnUNetv2_train",
        "nnUNetv2_predict",
    ]
    assert words[1][1:6] == ["901", "3d_fullres", "all", "-tr", "nnUNetTrainer_5epochs"]


@pytest.mark.parametrize(("cases", "fold"), [(4, "all"), (5, "0")])
def test_below_five_volumes_nnunet_trains_on_all_of_them(commands, cases, fold):
    trained = fitted(NnUNet(epochs=1), seeds=range(cases), shape=(6, 24, 20))
    assert trained.about == {"fold": fold, "trainer": "nnUNetTrainer_1epoch"}


def test_what_nnunet_says_when_it_fails_is_passed_on(commands, monkeypatch):
    monkeypatch.setenv("FAILS", "1")
    with pytest.raises(UnpromptedError, match="nnUNetv2_train ended with 3: no memory left"):
        fitted(NnUNet(), shape=(6, 24, 20))


def test_without_nnunet_the_way_to_get_it_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r'nnU-Net is not installed.*pip install "unprompted\[nnunet\]"'):
        fitted(NnUNet())


def test_the_dataset_for_nnunet_is_in_its_own_format(tmp_path):
    from unprompted.peers.nnunet import _write_dataset

    _write_dataset(tmp_path / "raw", subjects(1, 2), CLASSES)
    about = json.loads((tmp_path / "raw" / "dataset.json").read_text())
    assert about["labels"] == {"background": 0, "organ 1": 1, "organ 2": 2}
    assert (about["numTraining"], about["file_ending"], about["channel_names"]) == (
        2,
        ".nii.gz",
        {"0": "image"},
    )
    assert sorted(p.name for p in (tmp_path / "raw" / "imagesTr").iterdir()) == [
        "support0_0000.nii.gz",
        "support1_0000.nii.gz",
    ]
