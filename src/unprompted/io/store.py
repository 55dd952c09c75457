"""Where the results of a run lie: a folder, or anything fsspec knows (``s3://``, ``gs://``, ``memory://``)."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from unprompted.errors import UsageError
from unprompted.io.atomic import put, scratch_in, sweep

if sys.platform != "win32":
    import fcntl


class Store(Protocol):
    """Files by name, ``/`` between folders; each one is there whole or not at all."""

    def __str__(self) -> str: ...

    def scratch(self) -> Any:
        """A context that gives a local folder to make files in."""
        ...

    def put(self, made: Path, name: str) -> None:
        """Take a file or folder made in a scratch folder; it replaces what has its name."""
        ...

    def read(self, name: str) -> bytes | None:
        """The content of a file, None where there is none."""
        ...

    def sizes(self) -> dict[str, int]:
        """The name and bytes of every file, half-written ones left out."""
        ...

    def locked(self) -> Any:
        """A context in which no other run writes here."""
        ...


def store_of(place: str | Path) -> Store:
    """The store at a path or URL.

    Raises:
        UsageError: nothing installed here knows this kind of URL, or the path is a file.
    """
    text = str(place)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if "://" in text:
        return RemoteStore.at(text)
    if Path(text).exists() and not Path(text).is_dir():
        raise UsageError(f"{text} is a file; the output is a folder")
    return FolderStore(Path(text))


@dataclass(frozen=True)
class FolderStore:
    """A folder; files are synced, then renamed.

    Attributes:
        folder: made when the first file comes.
    """

    folder: Path

    def __str__(self) -> str:
        return str(self.folder)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A hidden folder on the same file system."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with scratch_in(self.folder) as folder:
            yield folder

    def put(self, made: Path, name: str) -> None:
        """Sync and rename."""
        put(made, self.folder / name)

    def read(self, name: str) -> bytes | None:
        """The content of a file, None where there is none."""
        try:
            return (self.folder / name).read_bytes()
        except OSError:
            return None

    def sizes(self) -> dict[str, int]:
        """The name and bytes of every file that is not hidden."""
        found = {}
        for folder, inner, files in os.walk(self.folder):
            inner[:] = [name for name in inner if not name.startswith(".")]
            for name in files:
                path = Path(folder, name)
                found[path.relative_to(self.folder).as_posix()] = path.stat().st_size
        return found

    @contextmanager
    def locked(self) -> Iterator[None]:
        """No other run on this machine writes here; what a killed one left half-written is removed.

        Raises:
            UsageError: another run writes here.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = None if sys.platform == "win32" else _lock(self.folder)
        try:
            sweep(self.folder)
            yield
        finally:
            sweep(self.folder)
            if handle is not None:
                os.close(handle)


def _lock(folder: Path) -> int:
    """An open handle that holds the lock; the system gives it back when the process dies."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise UsageError(
            f"another run writes to {folder}; wait for its end or choose another folder"
        ) from error
    except OSError:  # this file system has no locks
        pass
    return handle


@dataclass(frozen=True)
class RemoteStore:
    """A prefix in an object store; an upload is there whole or not at all, as S3 and GCS promise.

    Attributes:
        url: with its protocol.
    """

    url: str

    @classmethod
    def at(cls, url: str) -> "RemoteStore":
        """The store at a URL.

        Raises:
            UsageError: nothing installed here knows this kind of URL.
        """
        store = cls(url.rstrip("/"))
        try:
            store._place()
        except (ImportError, ValueError) as error:
            raise UsageError(
                f"{url}: {error}; install what fsspec needs for it (s3fs for s3://, gcsfs for gs://)"
            ) from error
        return store

    def __str__(self) -> str:
        return self.url

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder of this machine."""
        with tempfile.TemporaryDirectory(prefix="unprompted-") as folder:
            yield Path(folder)

    def put(self, made: Path, name: str) -> None:
        """Upload."""
        files, root = self._place()
        target = f"{root}/{name}"
        if not made.is_dir():
            files.makedirs(target.rpartition("/")[0], exist_ok=True)
            files.put_file(str(made), target)
            return
        if files.exists(target):
            files.rm(target, recursive=True)
        for inner in sorted(made.iterdir()):
            self.put(inner, f"{name}/{inner.name}")

    def read(self, name: str) -> bytes | None:
        """The content of an object, None where there is none."""
        files, root = self._place()
        try:
            content: bytes = files.cat_file(f"{root}/{name}")
        except FileNotFoundError:
            return None
        return content

    def sizes(self) -> dict[str, int]:
        """The name and bytes of every object under the prefix."""
        files, root = self._place()
        files.invalidate_cache()
        try:
            found = files.find(root, detail=True)
        except FileNotFoundError:
            return {}
        return {name.removeprefix(f"{root}/"): int(entry["size"]) for name, entry in found.items()}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Object stores have no locks: two runs at once do the work twice and write the same."""
        yield

    def _place(self) -> tuple[Any, str]:
        import fsspec

        files, root = fsspec.core.url_to_fs(self.url)
        return files, root.rstrip("/")
