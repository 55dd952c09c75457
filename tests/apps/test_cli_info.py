import dataclasses
import json
import subprocess
import sys

import pytest

from unprompted.methods.ofl_sam2 import OflSam2
from unprompted.registry import BACKBONES, DATASETS, METHODS, READERS

HEAVY = "('torch', 'transformers', 'nibabel', 'SimpleITK')"


@pytest.mark.parametrize(
    "call",
    [
        "import unprompted",
        "from unprompted.apps.cli.commands import run; run(['info', '--json'])",
        "from unprompted.apps.cli.commands import run; run(['info'])",
        "from unprompted.apps.cli.commands import run; run(['--help'])",
        "from unprompted.apps.cli.commands import run; run(['segment', '--help'])",
        "import unprompted.apps.batch.run, unprompted.evaluation.folders",
    ],
)
def test_nothing_heavy_is_imported(call):
    check = f"import sys; sys.exit(' '.join(m for m in {HEAVY} if m in sys.modules) or 0)"
    ended = subprocess.run([sys.executable, "-c", f"{call}; {check}"], capture_output=True, encoding="utf-8")
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.fixture
def listed(call):
    return json.loads(call("info", "--json").out)


def test_everything_registered_is_listed(listed):
    names = {kind: [entry["name"] for entry in listed[kind]] for kind in ("methods", "readers", "datasets")}
    assert names == {"methods": list(METHODS), "readers": list(READERS), "datasets": list(DATASETS)}
    assert [entry["name"] for entry in listed["backbones"]] == list(BACKBONES)
    assert listed["licence"] == "Apache-2.0"


def test_settings_read_from_source_are_those_of_the_class(listed):
    entry = next(method for method in listed["methods"] if method["name"] == "ofl-sam2")
    assert entry["paper"] == OflSam2.paper
    assert entry["needs_training"] == OflSam2.needs_training
    fields = {field.name: field for field in dataclasses.fields(OflSam2)}
    assert [setting["name"] for setting in entry["settings"]] == list(fields)
    gamma = next(setting for setting in entry["settings"] if setting["name"] == "gamma")
    assert gamma["kind"] == "float"
    assert float(gamma["default"]) == fields["gamma"].default
    assert all(setting["meaning"] for setting in entry["settings"])


def test_readers_are_listed_with_their_endings(listed):
    endings = {entry["name"]: entry["suffixes"] for entry in listed["readers"]}
    assert endings["nifti"] == [".nii.gz", ".nii"]
    assert ".mp4" in endings["video"]


def test_info_is_readable_too(call):
    out = call("info").out
    assert "method ofl-sam2" in out
    assert "arXiv:2512.24861" in out


def test_the_version_is_printed(call):
    ended = call("--version")
    assert (ended.code, ended.out) == (0, "unprompted 0.1.0\n")


def test_known_weights_are_listed(call):
    rows = json.loads(call("weights", "list", "--json").out)
    assert [row["name"] for row in rows][:2] == ["builtin", "facebook/sam2.1-hiera-tiny"]
    assert rows[1]["licence"] == "Apache-2.0"
    assert "facebook/sam2.1-hiera-tiny" in call("weights", "list").out


def test_weights_that_are_not_here_cannot_be_verified(call):
    ended = call("weights", "verify", "facebook/sam2.1-hiera-large")
    assert ended.code == 5
    assert "nothing to verify" in ended.err


def test_shipped_weights_are_verified_and_a_flipped_byte_exits_5(call, tmp_path, monkeypatch):
    import hashlib

    import unprompted.backbones.shipped as shipped

    content = b"weights"
    (tmp_path / "model.safetensors").write_bytes(content)
    (tmp_path / "sha256.txt").write_text(f"{hashlib.sha256(content).hexdigest()}  model.safetensors\n")
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    ended = call("weights", "verify", "builtin")
    assert ended.code == 0
    assert "builtin model.safetensors sha256:" in ended.out
    (tmp_path / "model.safetensors").write_bytes(b"weightz")
    ended = call("weights", "verify", "builtin")
    assert ended.code == 5
    assert "is damaged" in ended.err


def test_weights_without_network_exit_5(call, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    ended = call("weights", "get", "facebook/sam2.1-hiera-large")
    assert ended.code == 5
    assert "copy the folder it prints" in ended.err


def test_pretraining_resumes_and_exports_a_model_that_loads(call, tmp_path):
    from unprompted.loading import load_backbone

    words = ("pretrain", "--recipe", "test", "-o", tmp_path / "run", "--device", "cpu")
    assert call(*words, "--until", 1).code == 0
    ended = call(*words, "--until", 2, "--export", tmp_path / "model")
    assert ended.code == 0
    assert "sha256" in ended.out
    assert "2 of 12" in (tmp_path / "model" / "README.md").read_text()
    assert (tmp_path / "model" / "sha256.txt").is_file()
    assert load_backbone(str(tmp_path / "model"), input_size=256).input_size == 256


def test_a_model_that_was_not_trained_at_all_can_be_exported(call, tmp_path):
    from unprompted.loading import load_backbone

    words = ("pretrain", "--recipe", "test", "-o", tmp_path / "run", "--device", "cpu")
    assert call(*words, "--until", 0, "--export", tmp_path / "model").code == 0
    assert "0 of 12" in (tmp_path / "model" / "README.md").read_text()
    assert load_backbone(str(tmp_path / "model")).input_size == 64


def test_an_unknown_recipe_exits_2(call, tmp_path):
    ended = call("pretrain", "--recipe", "huge", "-o", tmp_path)
    assert ended.code == 2
    assert "no recipe is called 'huge'; known: builtin" in ended.err
