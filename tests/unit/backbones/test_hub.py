import hashlib
from pathlib import Path

import pytest
import torch

from unprompted.backbones.weights import get, installed, known, load_model, parameters_digest, verify
from unprompted.errors import UsageError, WeightsUnavailable

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TINY = "facebook/sam2.1-hiera-tiny"


def put_in_cache(cache, folder, name=TINY):
    """Lay a folder down as the hub's client does: blobs named by checksum, links beside them."""
    repository = cache / f"models--{name.replace('/', '--')}"
    snapshot = repository / "snapshots" / COMMIT
    for directory in (repository / "refs", repository / "blobs", snapshot):
        directory.mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    for file in folder.iterdir():
        content = file.read_bytes()
        if file.suffix == ".json":
            checksum = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        else:
            checksum = hashlib.sha256(content).hexdigest()
        (repository / "blobs" / checksum).write_bytes(content)
        (snapshot / file.name).symlink_to(Path("../../blobs") / checksum)
    return snapshot


def flip_a_byte(path):
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("offline", [True, False])
@pytest.mark.parametrize("name", [TINY, "someone/something@v2", "wanglab/MedSAM2"])
def test_an_unreachable_hub_says_what_was_wanted_and_what_to_do(cache, name, offline):
    with pytest.raises(WeightsUnavailable) as refusal:
        load_model(name, offline=offline)
    message = str(refusal.value)
    assert f"https://huggingface.co/{name.partition('@')[0]}" in message
    assert f"unprompted weights get {name}" in message
    assert "copy the folder" in message
    assert refusal.value.exit_code == 5


def test_a_hub_that_answers_with_an_error_is_unavailable(cache, monkeypatch):
    def refuse(*args, **options):
        raise ConnectionResetError("reset by peer")

    monkeypatch.setattr("unprompted.backbones.hub.snapshot_download", refuse)
    with pytest.raises(WeightsUnavailable, match="ConnectionResetError: reset by peer"):
        get(TINY)


def test_weights_in_the_cache_are_loaded_without_network(model, cache, folder):
    snapshot = put_in_cache(cache, folder)
    assert get(TINY) == snapshot
    assert [weights.name for weights in installed()] == [TINY]
    assert parameters_digest(load_model(TINY, 256)) == parameters_digest(model)
    assert load_model(TINY).image_size == 1024


def test_medsam2_is_taken_from_its_original_file_at_512(cache, tmp_path, monkeypatch):
    repository = tmp_path / "repository"
    repository.mkdir()
    torch.save({"model": {"stray": torch.zeros(1)}}, repository / "MedSAM2_latest.pt")
    put_in_cache(cache, repository, "wanglab/MedSAM2")
    seen = []
    monkeypatch.setattr("unprompted.backbones.weights._from_file", lambda *given: seen.append(given[:2]))
    load_model("wanglab/MedSAM2")
    assert [(path.name, side) for path, side in seen] == [("MedSAM2_latest.pt", 512)]


def test_verified_files_come_with_their_checksums(cache, folder):
    put_in_cache(cache, folder)
    checked = {c.path.name: c for c in verify(TINY)}
    expected = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    assert checked["model.safetensors"].checksum == f"sha256:{expected}"
    assert checked["config.json"].checksum.startswith("git:")
    assert checked["config.json"].commit == COMMIT


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_flipped_byte_in_the_cache_is_found(cache, folder, file):
    snapshot = put_in_cache(cache, folder)
    flip_a_byte((snapshot / file).resolve())
    with pytest.raises(WeightsUnavailable, match=f"{file} is damaged"):
        verify(TINY)


def test_verifying_weights_that_are_not_here_says_how_to_get_them(cache):
    with pytest.raises(WeightsUnavailable, match=f"unprompted weights get {TINY}"):
        verify(TINY)


def test_a_file_of_unknown_checksum_is_not_called_verified(cache, folder):
    snapshot = put_in_cache(cache, folder)
    (snapshot / "config.json").unlink()
    (snapshot / "config.json").write_text("{}")  # a copy in place of a link tells no checksum
    with pytest.raises(WeightsUnavailable, match="no checksum is known"):
        verify(TINY)


def test_a_name_that_is_no_hub_id_is_refused():
    with pytest.raises(UsageError, match="'tiny' is not a hub id"):
        get("tiny")


def test_the_eight_released_models_are_known_with_their_licence():
    released = [w for w in known() if w.name.startswith("facebook/")]
    assert len(released) == 8
    assert {w.licence for w in released} == {"Apache-2.0"}
    assert {w.input_size for w in released} == {1024}
