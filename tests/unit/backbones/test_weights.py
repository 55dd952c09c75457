import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from unprompted.backbones.weights import (
    check_sha256,
    load_model,
    parameters_digest,
    resized_config,
)
from unprompted.errors import UsageError, WeightsUnavailable


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)


# Folders


def test_a_folder_is_loaded_in_eval_mode_and_float32(model, folder):
    loaded = load_model(str(folder))
    assert not loaded.training
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert loaded.image_size == 1024
    assert parameters_digest(loaded) == parameters_digest(model)


def test_half_precision_weights_are_widened(folder):
    file = folder / "model.safetensors"
    save_file({n: t.half() for n, t in load_file(file).items()}, file, metadata={"format": "pt"})
    assert {p.dtype for p in load_model(str(folder)).parameters()} == {torch.float32}


def test_loading_prints_nothing_and_leaves_the_random_state_alone(folder, capfd):
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    load_model(str(folder))
    assert torch.equal(torch.rand(1), expected)
    assert capfd.readouterr() == ("", "")


def test_safetensors_win_over_a_pickle_in_the_same_folder(model, folder):
    torch.save({n: torch.zeros_like(t) for n, t in model.state_dict().items()}, folder / "pytorch_model.bin")
    assert parameters_digest(load_model(str(folder))) == parameters_digest(model)


def test_the_weights_file_of_a_folder_stands_for_the_folder(model, folder):
    loaded = load_model(str(folder / "model.safetensors"))
    assert parameters_digest(loaded) == parameters_digest(model)


@pytest.mark.parametrize("side", [256, 512])
def test_the_same_weights_work_at_another_input_size(model, folder, side):
    loaded = load_model(str(folder), side)
    with torch.no_grad():
        features = loaded.get_image_features(torch.zeros(1, 3, side, side)).fpn_hidden_states
        fused = loaded.memory_attention(
            current_vision_features=features[-1],
            current_vision_position_embeddings=features[-1],
            memory=torch.zeros((side // 16) ** 2, 1, 64),
            memory_posision_embeddings=torch.zeros((side // 16) ** 2, 1, 64),
        )
        images = loaded.get_image_embeddings(torch.zeros(1, 3, side, side))
        masks = loaded._single_frame_forward(image_embeddings=images).pred_masks
    assert [tuple(f.shape) for f in features] == [
        ((side // 4) ** 2, 1, 8),
        ((side // 8) ** 2, 1, 16),
        ((side // 16) ** 2, 1, 64),
    ]
    assert fused.shape[-2:] == ((side // 16) ** 2, 64)
    assert masks.shape[-2:] == (side // 4, side // 4)
    assert parameters_digest(loaded) == parameters_digest(model)


def test_resizing_leaves_the_given_configuration_as_it_was(model):
    resized = resized_config(model.config, 256)
    assert model.config.image_size == 1024
    assert resized.image_size == 256
    assert resized.prompt_encoder_config.image_size == 256
    assert resized.vision_config.backbone_config.image_size == [256, 256]
    assert resized.vision_config.backbone_feature_sizes == [[64, 64], [32, 32], [16, 16]]
    assert resized.memory_attention_rope_feat_sizes == [16, 16]


@pytest.mark.parametrize("side", [0, 96, 300, 1056])
def test_an_input_size_that_does_not_fit_is_refused(model, side):
    with pytest.raises(UsageError, match=f"input size is {side}, but a multiple of 32"):
        resized_config(model.config, side)


# Damage


def test_a_missing_weight_is_named(folder):
    file = folder / "model.safetensors"
    state = load_file(file)
    del state["no_object_pointer"]
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(WeightsUnavailable, match=r"1 missing \(no_object_pointer\)"):
        load_model(str(folder))


def test_an_unexpected_weight_is_named(folder):
    file = folder / "model.safetensors"
    save_file(load_file(file) | {"stray.weight": torch.zeros(1)}, file, metadata={"format": "pt"})
    with pytest.raises(WeightsUnavailable, match=r"1 unexpected \(stray.weight\)"):
        load_model(str(folder))


def test_a_weight_of_another_shape_is_named(folder):
    file = folder / "model.safetensors"
    save_file(load_file(file) | {"no_object_pointer": torch.zeros(3)}, file, metadata={"format": "pt"})
    with pytest.raises(WeightsUnavailable, match=r"1 of another shape \(no_object_pointer\)"):
        load_model(str(folder))


def test_a_truncated_safetensors_file_is_refused(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(WeightsUnavailable, match="cannot be loaded") as refusal:
        load_model(str(folder))
    assert refusal.value.exit_code == 5


def test_a_flipped_byte_in_an_original_checkpoint_is_refused(tmp_path):
    file = tmp_path / "sam2.pt"
    torch.save({"model": {"weight": torch.zeros(1000)}}, file)
    content = bytearray(file.read_bytes())
    content[content.index(bytes(100)) + 50] ^= 1
    file.write_bytes(content)
    with pytest.raises(WeightsUnavailable, match=r"checksum of .* is wrong"):
        load_model(str(file))


def test_a_truncated_original_checkpoint_is_refused(tmp_path):
    file = tmp_path / "sam2.pt"
    torch.save({"model": {"weight": torch.zeros(1000)}}, file)
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(WeightsUnavailable, match="download it again"):
        load_model(str(file))


def test_a_broken_configuration_is_refused(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(WeightsUnavailable, match="cannot be loaded"):
        load_model(str(folder))


def test_another_kind_of_model_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "sam"}))
    with pytest.raises(WeightsUnavailable, match="type 'sam', but 'sam2_video' is wanted"):
        load_model(str(folder))


class Trap:
    """Unpickling it makes a file, as an attack would run a command."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["sam2.pt", "sam2.pth"])
@pytest.mark.parametrize(
    "save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content, protocol=2))]
)
def test_code_in_a_checkpoint_does_not_run(tmp_path, name, save):
    save({"model": {"weight": Trap(tmp_path / "sprung")}}, tmp_path / name)
    with pytest.raises(WeightsUnavailable, match="something else than tensors"):
        load_model(str(tmp_path / name))
    assert not (tmp_path / "sprung").exists()


def test_code_in_a_folder_does_not_run(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Trap(tmp_path / "sprung")}, folder / "pytorch_model.bin")
    with pytest.raises(WeightsUnavailable, match="cannot be loaded"):
        load_model(str(folder))
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [[1, 2], {"model": 3}, {"epoch": 4}])
def test_a_file_without_tensors_by_name_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "sam2.pt")
    with pytest.raises(WeightsUnavailable, match="is not a checkpoint"):
        load_model(str(tmp_path / "sam2.pt"))


def test_a_flipped_byte_is_found_by_its_checksum(folder):
    file = folder / "model.safetensors"
    expected = hashlib.sha256(file.read_bytes()).hexdigest()
    check_sha256(file, expected)
    flip_a_byte(file)
    with pytest.raises(WeightsUnavailable, match=f"is damaged: .* {expected} is wanted"):
        check_sha256(file, expected)


def test_the_checksum_of_a_missing_file_is_refused(tmp_path):
    with pytest.raises(WeightsUnavailable, match="is missing"):
        check_sha256(tmp_path / "model.safetensors", "0" * 64)


# Names and paths


@pytest.mark.parametrize("source", ["nowhere.pt", "./nowhere", "/no/such/folder", "nowhere", "a/b/c"])
def test_a_path_that_does_not_exist_says_what_can_be_given(source, cache):
    with pytest.raises(WeightsUnavailable, match=f"{source} does not exist; give a hub id"):
        load_model(source)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(WeightsUnavailable, match=r"neither config\.json"):
        load_model(str(tmp_path))


def test_a_folder_with_several_checkpoints_asks_which(tmp_path):
    for name in ("one.pt", "two.pt"):
        torch.save({}, tmp_path / name)
    with pytest.raises(WeightsUnavailable, match=r"one.pt, two.pt\); give the path of one"):
        load_model(str(tmp_path))


# The digest


def test_the_digest_changes_with_a_value_a_name_and_a_shape():
    first = torch.nn.Linear(2, 3)
    same = torch.nn.Linear(2, 3)
    same.load_state_dict(first.state_dict())
    assert parameters_digest(first) == parameters_digest(same)
    with torch.no_grad():
        same.bias[0] += 1
    assert parameters_digest(first) != parameters_digest(same)
    assert parameters_digest(torch.nn.Sequential(first)) != parameters_digest(first)


def test_the_digest_reads_half_precision_and_scalars():
    layer = torch.nn.BatchNorm1d(3).to(torch.bfloat16)  # its counter is a scalar buffer
    assert len(parameters_digest(layer)) == 64
