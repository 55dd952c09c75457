"""The contract of a file format, and the one way to read and write through it."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Protocol

from unprompted.errors import DataRefused, UnpromptedError, UnreadableFile, UsageError
from unprompted.geometry import Grid
from unprompted.images import LabelMap, Volume
from unprompted.registry import READERS

FOLDER = "/"  # the suffix of a reader that takes folders


class Reader(Protocol):
    """One file format.

    Arrays come out in the canonical order of `unprompted.geometry`; nothing else moves axes. A format may
    have three functions more: ``takes(path)``, for folders and for files without a known ending;
    ``files_of(path)``, where several files make an image; ``read_labels_onto(path, grid)``, where labels
    need the grid of their image.

    Attributes:
        suffixes: lower-case endings of the files it takes, dots included; "/" for folders.
        holds_labels: whether one file holds an image together with its labels.
    """

    suffixes: tuple[str, ...]
    holds_labels: bool

    def read(self, path: Path) -> Volume:
        """The image in a file (or, for a video, a folder of frames)."""
        ...

    def read_labels(self, path: Path) -> LabelMap:
        """The label map in a file."""
        ...

    def write_labels(self, labels: LabelMap, path: Path, like: Path) -> None:
        """Write a label map on the stored grid of the image file `like`."""
        ...

    def result_suffix(self, like: Path) -> str:
        """The ending of the label map written for the image `like`; "" for a folder."""
        ...


def suffix_of(path: Path) -> str | None:
    """The ending by which a reader knows this file, None where no reader does."""
    found = _reader_and_suffix(path)
    return found[1] if found else None


def case_name(path: Path) -> str:
    """The file name without the ending its format is known by (``a.b.nii.gz`` is case ``a.b``)."""
    suffix = suffix_of(path)
    suffix = path.suffix if suffix is None else suffix
    return path.name[: -len(suffix)] if suffix and suffix != FOLDER else path.name


def holds_labels(path: Path) -> bool:
    """Whether this one file holds an image together with its labels (npz, h5)."""
    found = _reader_and_suffix(path)
    return found is not None and found[0].holds_labels


def result_path(folder: Path, name: str, like: Path) -> Path:
    """Where the label map of a case goes: the same format as the query image, PNG for pictures.

    Args:
        folder: the output folder.
        name: the case name.
        like: the query image (a frame folder, for a video).

    Raises:
        DataRefused: the name would lead out of the folder, or be hidden in it.
    """
    return folder / (checked_name(name, like) + _reader_for(like)[0].result_suffix(like))


def checked_name(name: str, like: Path) -> str:
    """The name of a case.

    Raises:
        DataRefused: it would lead out of a folder, or be hidden in it.
    """
    if not name or name.startswith(".") or "/" in name or "\\" in name:
        raise DataRefused(f"{name!r} cannot be the name of a case; rename {like.name}")
    return name


def read_image(path: Path) -> Volume:
    """The image in a file, or in a folder of frames, in canonical order.

    Raises:
        UnreadableFile: the file is missing, truncated, of unknown type or shape.
        DataRefused: voxels are NaN or infinite.
    """
    reader, _ = _reader_for(path)
    with refusing(path):
        return reader.read(path)


def read_labels(path: Path, onto: Grid | None = None) -> LabelMap:
    """The label map in a file, or in a folder of masks, in canonical order.

    Args:
        path: the file or folder.
        onto: the grid of the image; formats that store outlines or single frames put them on it.

    Raises:
        UnreadableFile: the file is missing, truncated or of unknown type.
        LabelRefused: the file is 4D or holds something else than integers of 0 and up.
    """
    reader, _ = _reader_for(path)
    placing = getattr(reader, "read_labels_onto", None)
    with refusing(path):
        return reader.read_labels(path) if placing is None or onto is None else placing(path, onto)


def files_of(path: Path) -> tuple[Path, ...]:
    """All files that make the image at a path: itself, those of its folder, or those of its series."""
    found = _reader_and_suffix(path)
    listing = getattr(found[0], "files_of", None) if found else None
    if listing is not None:
        return tuple(listing(path))
    return (path,) if path.is_file() else tuple(f for f in sorted(path.iterdir()) if f.is_file())


def write_labels(labels: LabelMap, path: Path, like: Path) -> None:
    """Write a label map on the stored grid of the image `like`: same order, affine and header.

    Raises:
        GeometryMismatch: the labels do not lie on the voxels of `like`.
        UnreadableFile: no format has the ending of `path`.
        UsageError: `path` is `like` itself.
        UnpromptedError: the disk is full or the folder may not be written.
    """
    reader = _reader_of_result(path, like)
    if path.resolve() == like.resolve():
        raise UsageError(f"{path}: the label map would take the place of its image; choose another folder")
    try:
        reader.write_labels(labels, path, like)
    except UnpromptedError as error:
        raise type(error)(f"{path.name}: {error}") from error
    except OSError as error:
        raise UnpromptedError(f"{path}: cannot be written ({error})") from error


def _reader_of_result(path: Path, like: Path) -> Reader:
    reader, _ = _reader_for(like)
    writes_a_folder = reader.result_suffix(like) == ""
    return reader if writes_a_folder else _reader_for(path, must_exist=False)[0]


@lru_cache
def _readers() -> tuple[Reader, ...]:
    return tuple(READERS.load(name)() for name in READERS)


def _reader_and_suffix(path: Path) -> tuple[Reader, str] | None:
    name = path.name.lower()
    found: list[tuple[int, Reader, str]] = []
    for reader in _readers():
        for suffix in reader.suffixes:
            if path.is_dir():
                takes = suffix == FOLDER and _claims(reader, path)
            else:
                takes = name.endswith(suffix) and name != suffix
            if takes:
                found.append((len(suffix), reader, suffix))
    if not found and path.is_file():
        found = [
            (0, reader, "") for reader in _readers() if hasattr(reader, "takes") and _claims(reader, path)
        ]
    if not found:
        return None
    _, reader, suffix = max(found, key=lambda entry: entry[0])
    return reader, suffix


def _claims(reader: Reader, path: Path) -> bool:
    takes = getattr(reader, "takes", None)
    return takes is None or bool(takes(path))


def _reader_for(path: Path, must_exist: bool = True) -> tuple[Reader, str]:
    if must_exist and not path.exists():
        raise UnreadableFile(f"{path}: there is no such file or folder")
    found = _reader_and_suffix(path)
    if found is None:
        known = sorted({s for reader in _readers() for s in reader.suffixes if s != FOLDER})
        raise UnreadableFile(f"{path}: files of this type are not read; known endings: {', '.join(known)}")
    return found


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Turn what a file library raises into one clear refusal that names the file."""
    try:
        yield
    except UnpromptedError as error:
        if path.name in str(error):
            raise
        raise type(error)(f"{path.name}: {error}") from error
    except MemoryError as error:
        raise DataRefused(
            f"{path}: needs more memory than there is ({error}); use a larger machine"
        ) from error
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise UnreadableFile(
            f"{path}: cannot be read, so it is truncated, damaged or not what its name says "
            f"({type(error).__name__}: {reason})"
        ) from error
