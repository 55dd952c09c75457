"""Write a file whole or not at all, and onto the disk before it takes its name."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial-"  # what starts so is half-written: nobody reads it, and `sweep` removes it


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to; what lies there takes the place of `path` when all went well.

    The path given keeps the name of `path`, in a hidden folder beside it: formats of several files
    (``.mhd`` + ``.zraw``) and folders come over whole, and after a crash the old file still stands.

    Raises:
        OSError: the folder cannot be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch_in(path.parent) as workshop:
        yield workshop / path.name
        for made in sorted(workshop.iterdir(), key=lambda made: made.name == path.name):
            put(made, path.parent / made.name)


@contextmanager
def scratch_in(folder: Path) -> Iterator[Path]:
    """A new hidden folder, gone when the block ends; several processes may have one each.

    Raises:
        OSError: the folder cannot be written to.
    """
    workshop = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=folder))
    try:
        yield workshop
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def put(made: Path, target: Path) -> None:
    """Move a file or a folder onto the name `target`, its content first brought to the disk.

    Raises:
        OSError: the disk is full, or another file system holds `target`.
    """
    _sync(made)
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        shutil.rmtree(target)
    made.replace(target)
    _sync_one(target.parent)


def sweep(folder: Path) -> None:
    """Remove what a killed process left half-written in a folder."""
    for left in folder.glob(f"{PARTIAL}*"):
        shutil.rmtree(left, ignore_errors=True)


def _sync(path: Path) -> None:
    if path.is_dir():
        for inner in path.iterdir():
            _sync(inner)
    _sync_one(path)


def _sync_one(path: Path) -> None:
    if os.name == "nt" and path.is_dir():  # Windows opens no folders
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
