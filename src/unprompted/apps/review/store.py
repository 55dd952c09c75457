"""What readers did to the cases of an output folder, saved so that nothing is lost.

OUT/review/cases/ID.json     version, status and corrected slices of a case; what it says is saved
OUT/review/slices/ID/N.npy   labels of a corrected slice, counted from 0 along the slice axis
OUT/review/salt.json         decides the opaque ids of the cases
OUT/review/audit.jsonl       one line a write, without names
"""

import fcntl
import hashlib
import json
import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from unprompted.apps.batch.keep import REVIEW
from unprompted.apps.batch.records import write_json
from unprompted.errors import DataRefused, UnpromptedError, UsageError
from unprompted.io.atomic import replacing

STATUSES = ("open", "accepted", "rejected")
Labels = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True)
class CaseState:
    """What readers did to one case.

    Attributes:
        version: grows with every write.
        status: one of `STATUSES`.
        slices: corrected slice to the version that corrected it last.
        segmented: the version that segmented the case again last, 0 where none did.
    """

    version: int = 0
    status: str = "open"
    slices: Mapping[int, int] = field(default_factory=dict)
    segmented: int = 0


class StaleVersion(UnpromptedError):
    """Someone else wrote since the writer looked; `state` is what is saved now."""

    def __init__(self, state: CaseState) -> None:
        super().__init__(
            f"the case was changed elsewhere (version {state.version} now); look at it and save again"
        )
        self.state = state


class Store:
    """The saved reviews of one output folder; one process at a time, any number of threads.

    Args:
        folder: the output folder.
        names: of the cases.

    Raises:
        UsageError: another server has the folder.
        DataRefused: what is saved cannot be read.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        self.root = folder / REVIEW
        self.root.mkdir(parents=True, exist_ok=True)
        self._lock_file = _locked(self.root / "lock")
        salt = _salt(self.root / "salt.json")
        self.names = {_key(salt, name): name for name in names}
        self._lock = threading.RLock()
        self._states = {key: _read(self.root, key) for key in self.names}

    def state(self, key: str) -> CaseState:
        """What is saved of a case."""
        with self._lock:
            return self._states[key]

    def corrections(self, key: str) -> dict[int, Labels]:
        """The corrected slices of a case, by slice."""
        with self._lock:
            return {n: np.load(self._slice(key, n), allow_pickle=False) for n in self.state(key).slices}

    def save_slice(self, key: str, number: int, labels: Labels, expected: int) -> CaseState:
        """Save the labels ``(H, W)`` of one corrected slice; an accepted case is open again.

        Raises:
            StaleVersion: `expected` is not the version that is saved.
        """
        with self._lock:
            state = self._checked(key, expected)
            with replacing(self._slice(key, number)) as partial, partial.open("wb") as file:
                np.save(file, labels, allow_pickle=False)
            version = state.version + 1
            slices = {**state.slices, number: version}
            status = "open" if state.status == "accepted" else state.status
            digest = hashlib.sha256(np.ascontiguousarray(labels).tobytes()).hexdigest()
            return self._write(
                key, replace(state, version=version, slices=slices, status=status), "correct", number, digest
            )

    def set_status(self, key: str, status: str, expected: int) -> CaseState:
        """Accept or reject a case, or open it again.

        Raises:
            StaleVersion: `expected` is not the version that is saved.
            UsageError: there is no such status.
        """
        if status not in STATUSES:
            raise UsageError(f"the status is one of {', '.join(STATUSES)}")
        with self._lock:
            state = self._checked(key, expected)
            return self._write(key, replace(state, version=state.version + 1, status=status), status)

    def was_segmented(self, key: str) -> CaseState:
        """Note that a case was segmented again."""
        with self._lock:
            version = self.state(key).version + 1
            return self._write(key, replace(self.state(key), version=version, segmented=version), "segment")

    def writing(self) -> threading.RLock:
        """A context in which nobody else writes."""
        return self._lock

    def close(self) -> None:
        """Let another process have the folder."""
        self._lock_file.close()

    def _checked(self, key: str, expected: int) -> CaseState:
        state = self.state(key)
        if state.version != expected:
            raise StaleVersion(state)
        return state

    def _write(
        self, key: str, state: CaseState, action: str, number: int | None = None, sha256: str | None = None
    ) -> CaseState:
        slices = {str(n): version for n, version in sorted(state.slices.items())}
        write_json(
            self.root / "cases" / f"{key}.json", asdict(replace(state, slices={})) | {"slices": slices}
        )
        self._states[key] = state
        line = {
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "case": key,
            "action": action,
            "slice": number,
            "version": state.version,
            "sha256": sha256,
        }
        with (self.root / "audit.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return state

    def _slice(self, key: str, number: int) -> Path:
        return self.root / "slices" / key / f"{number}.npy"


def peek(root: Path, names: Sequence[str]) -> dict[str, CaseState]:
    """What is saved of cases by name, without taking the folder; fresh where nothing is."""
    if not (root / "salt.json").is_file():
        return {name: CaseState() for name in names}
    salt = _salt(root / "salt.json")
    return {name: _read(root, _key(salt, name)) for name in names}


def _key(salt: str, name: str) -> str:
    return hashlib.sha256((salt + name).encode()).hexdigest()[:16]


def _read(root: Path, key: str) -> CaseState:
    file = root / "cases" / f"{key}.json"
    if not file.is_file():
        return CaseState()
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        slices = {int(n): int(version) for n, version in content.pop("slices").items()}
        return CaseState(**content, slices=slices)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataRefused(f"{file} is damaged ({error!r}); move it away to review the case anew") from error


def _locked(file: Path) -> IO[str]:
    handle = file.open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.close()
        raise UsageError(
            f"{file.parent.parent} is being reviewed already; use that page, or stop it"
        ) from error
    return handle


def _salt(file: Path) -> str:
    if not file.is_file():
        write_json(file, {"salt": secrets.token_hex(16)})
    return str(json.loads(file.read_text(encoding="utf-8"))["salt"])
