"""Stacks of slices that are too large to hold: on disk, or made when they are asked for.

What is mapped to a file counts as memory only while its pages are in use, and `release` gives them back.
"""

import math
import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from unprompted.errors import UnpromptedError

HELD_BYTES = 16 << 20  # arrays up to this size are held in memory, larger ones in a temporary file
_BLOCK_BYTES = 4 << 20


class Slices(Protocol):
    """Slices ``(D, H, W)`` or ``(D, H, W, 3)``, an array or something that is read as one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all slices."""
        ...

    @property
    def ndim(self) -> int:
        """Number of axes."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the values."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, where: Any, /) -> Any: ...


@dataclass(frozen=True, eq=False)
class OnDemand:
    """Slices that are made when they are asked for, several at a time.

    Attributes:
        shape: of all of them.
        dtype: of the values.
        make: from first index and one past the last to the slices between.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    make: Callable[[int, int], NDArray[Any]]

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, where: Any) -> NDArray[Any]:
        first, *rest = where if isinstance(where, tuple) else (where,)
        if isinstance(first, slice):
            wanted = range(*first.indices(len(self)))
            start, stop = (wanted[0], wanted[-1] + 1) if wanted and wanted.step == 1 else (0, 0)
            if wanted.step == 1:
                return self.make(start, stop)[(slice(None), *rest)]
            return np.stack([self[index, *rest] for index in wanted])
        index = range(len(self))[first]
        found: NDArray[Any] = self.make(index, index + 1)[(0, *rest)]
        return found

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return self.make(0, len(self)).astype(dtype or self.dtype, copy=False)


def room_for(shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """An array of zeros; a large one lies in a temporary file that is gone when the array is.

    Raises:
        UnpromptedError: the file system of temporary files has no room for it.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size <= HELD_BYTES:
        return np.zeros(shape, dtype)
    try:
        with tempfile.TemporaryFile() as file:
            if hasattr(os, "posix_fallocate"):  # a full disk is told here, not by a signal later
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            buffer = mmap.mmap(file.fileno(), size)
    except OSError as error:
        raise UnpromptedError(
            f"{tempfile.gettempdir()} has no room for {size >> 20} MiB of slices ({error.strerror}); "
            "make room there, or set TMPDIR to a larger disk"
        ) from error
    return np.ndarray(shape, dtype, buffer)


def is_mapped(array: Slices) -> bool:
    """Whether an array or what it is a view of lies in a file."""
    return _mapping(array) is not None


def release(array: Slices) -> None:
    """Give the pages of a mapped array back; its values stay, in the file. Others are left alone."""
    mapping = _mapping(array)
    if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapping.madvise(mmap.MADV_DONTNEED)


def blocks(slices: Slices) -> Iterator[NDArray[Any]]:
    """All slices in order, a few at a time; a block is to be used before the next one is asked for."""
    for start, stop in block_ranges(slices.shape, slices.dtype):
        yield np.asarray(slices[start:stop])
        release(slices)


def block_ranges(shape: tuple[int, ...], dtype: DTypeLike) -> Iterator[tuple[int, int]]:
    """First index and one past the last of a few slices at a time."""
    each = math.prod(shape[1:]) * np.dtype(dtype).itemsize
    step = max(1, _BLOCK_BYTES // max(each, 1))
    for start in range(0, shape[0], step):
        yield start, min(start + step, shape[0])


def _mapping(array: Any) -> mmap.mmap | None:
    while array is not None and not isinstance(array, mmap.mmap):
        array = array.obj if isinstance(array, memoryview) else getattr(array, "base", None)
    return array
