"""Write a file whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a path to write to; what lies there takes the place of `path` when all went well.

    The path given keeps the name of `path`, in a hidden folder beside it: formats of several files
    (``.mhd`` + ``.zraw``) and folders come over whole, and after a crash the old file still stands.

    Raises:
        OSError: the folder cannot be written to.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    workshop = path.parent / f".partial-{path.name}"
    shutil.rmtree(workshop, ignore_errors=True)
    workshop.mkdir()
    try:
        yield workshop / path.name
        for made in sorted(workshop.iterdir(), key=lambda made: made.name == path.name):
            _put(made, path.parent / made.name)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _put(made: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    os.replace(made, target)
