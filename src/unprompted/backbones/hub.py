"""Weights on the model hub: which are known, where they are on this machine, fetching and checking them."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path

from huggingface_hub import snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

from unprompted.errors import UsageError, WeightsUnavailable

TRANSFORMERS_FILES = ("config.json", "model.safetensors")
_HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?")
_CHUNK = 1 << 20  # bytes hashed at a time


@dataclass(frozen=True)
class KnownWeights:
    """Weights on the hub.

    Attributes:
        name: hub id, ``org/name``.
        licence: of the weights, as their authors state it.
        input_size: side of the square input they were trained for, in pixels.
        million_parameters: size of the model; None when unknown.
        files: what is fetched from the repository.
        revision: commit, tag or branch.
        sha256: expected checksums by file name; empty where only the hub's own are known.
    """

    name: str
    licence: str = "unknown"
    input_size: int | None = None
    million_parameters: float | None = None
    files: tuple[str, ...] = TRANSFORMERS_FILES
    revision: str = "main"
    sha256: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path | None:
        """Where the files are on this machine, or None unless all of them are."""
        found = [try_to_load_from_cache(self.name, file, revision=self.revision) for file in self.files]
        paths = [Path(path) for path in found if isinstance(path, str)]
        return paths[0].parent if len(paths) == len(self.files) else None


@dataclass(frozen=True)
class Checked:
    """A file whose content is what it should be.

    Attributes:
        path: the file.
        checksum: ``sha256:…``, or ``git:…`` for small files, as the hub keeps them.
        commit: the revision of the repository it came from.
    """

    path: Path
    checksum: str
    commit: str


def known() -> list[KnownWeights]:
    """Every entry of the package's manifest, on this machine or not."""
    text = resources.files("unprompted.backbones").joinpath("manifest.json").read_text()
    return [
        KnownWeights(name=name, **(entry | {"files": tuple(entry.get("files", TRANSFORMERS_FILES))}))
        for name, entry in json.loads(text).items()
    ]


def installed() -> list[KnownWeights]:
    """Known weights that are on this machine, ready to load without network."""
    return [weights for weights in known() if weights.folder is not None]


def described(name: str) -> KnownWeights:
    """The manifest's entry for ``org/name`` or ``org/name@revision``, or defaults for an unlisted one.

    Raises:
        UsageError: the name is not a hub id.
    """
    match = _HUB_ID.fullmatch(name)
    if match is None:
        raise UsageError(
            f"{name!r} is not a hub id; one looks like facebook/sam2.1-hiera-tiny or org/name@v2"
        )
    repository, revision = match["repo"], match["revision"]
    entry = next((w for w in known() if w.name == repository), KnownWeights(repository))
    if revision is None or revision == entry.revision:
        return entry
    return replace(entry, revision=revision, sha256={})


def native_input_size(name: str) -> int | None:
    """The input size the weights were trained for, where it is known."""
    return described(name).input_size


def get(name: str, offline: bool = False) -> Path:
    """The folder with the weights of a hub id; fetched if they are not on this machine yet.

    The folder is named after the commit. An interrupted download is resumed by the next call.

    Raises:
        WeightsUnavailable: they are not here, and the hub cannot be reached or does not have them.
        UsageError: the name is not a hub id.
    """
    weights = described(name)
    if (folder := weights.folder) is not None:
        return folder
    try:
        folder = Path(
            snapshot_download(
                weights.name,
                revision=weights.revision,
                allow_patterns=[*weights.files, "model-*.safetensors", "model.safetensors.index.json"],
                local_files_only=offline,
            )
        )
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        reason = "the network is not to be used" if offline else "the hub cannot be reached"
        raise _unavailable(name, weights, reason) from error
    except Exception as error:  # the client's own, its HTTP library's or the system's: none of them is ours
        raise _unavailable(name, weights, f"{type(error).__name__}: {str(error).strip()}") from error
    if not any(file.suffix in (".safetensors", ".pt", ".pth") for file in folder.iterdir()):
        raise _unavailable(name, weights, "the repository does not have these files")
    return folder


def verify(name: str) -> list[Checked]:
    """The files of a hub id on this machine, each with the checksum it was found to have.

    Expected are the manifest's SHA-256, or else the checksum by which the hub's own cache names a file.

    Raises:
        WeightsUnavailable: they are not on this machine, a file is damaged, or no checksum is known.
    """
    weights = described(name)
    folder = weights.folder
    if folder is None:
        raise _unavailable(name, weights, "nothing to verify")
    checked = []
    for file in weights.files:
        path = folder / file
        expected = weights.sha256.get(file, path.resolve().name)
        checked.append(Checked(path, _matching(path, expected), folder.name))
    return checked


def check_sha256(path: Path, expected: str) -> None:
    """Refuse a file whose SHA-256, in hexadecimal, is not the expected one.

    Raises:
        WeightsUnavailable: the file is missing, truncated or altered.
    """
    if not path.is_file():
        raise WeightsUnavailable(f"{path} is missing; install the package again or fetch the weights again")
    found = _digest(path, hashlib.sha256())
    if found != expected:
        raise WeightsUnavailable(
            f"{path} is damaged: its SHA-256 is {found}, but {expected} is wanted; "
            "delete it and fetch it again"
        )


def _matching(path: Path, expected: str) -> str:
    """The checksum of a file, labelled, once it has been found equal to what is expected."""
    if re.fullmatch(r"[0-9a-f]{64}", expected):
        check_sha256(path, expected)
        return f"sha256:{expected}"
    if re.fullmatch(r"[0-9a-f]{40}", expected):
        header = f"blob {path.stat().st_size}\0".encode()  # how git, and so the hub, names small files
        found = _digest(path, hashlib.sha1(header, usedforsecurity=False))
        if found == expected:
            return f"git:{expected}"
        raise WeightsUnavailable(
            f"{path} is damaged: its git hash is {found}, but {expected} is wanted; "
            "delete it and fetch it again"
        )
    raise WeightsUnavailable(
        f"no checksum is known for {path}, so it cannot be verified; compare it with the one its page shows"
    )


def _digest(path: Path, digest: "hashlib._Hash") -> str:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _unavailable(name: str, weights: KnownWeights, reason: str) -> WeightsUnavailable:
    return WeightsUnavailable(
        f"{name} is not on this machine and was not fetched ({reason}). Wanted: {', '.join(weights.files)} "
        f"from https://huggingface.co/{weights.name} at {weights.revision}. Run `unprompted weights get "
        f"{name}` on a machine with network, copy the folder it prints to this one, and pass the path of "
        "that folder instead of the name"
    )
