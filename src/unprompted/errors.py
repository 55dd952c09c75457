"""Every error a user can meet, and the exit code each one ends the program with.

    UnpromptedError            1  the work failed
    ├── UsageError             2  the call itself is wrong (unknown method, bad setting)
    ├── DataRefused            3  the input cannot be used as it is
    │   ├── GeometryMismatch   3  image and label lie on different grids
    │   ├── LabelRefused       3  labels are not what a label map holds
    │   ├── EmptySupport       3  a class has no labelled example
    │   └── UnreadableFile     3  truncated, unknown or unsupported file
    ├── StorageFull            1  there is no room for more results
    ├── OutOfMemory            1  the machine, or a limit, refused memory
    ├── SomeCasesFailed        4  some cases failed, the others are written
    └── WeightsUnavailable     5  weights are missing or their checksum is wrong

A message says what was found, what was wanted and what to do.
"""

import re

_NO_ROOM = re.compile(
    "can('t|not) allocate memory|not enough memory|bad_alloc|could not create a memory", re.IGNORECASE
)


class UnpromptedError(Exception):
    """Root of every error this package raises on purpose."""

    exit_code = 1


class UsageError(UnpromptedError):
    """The call itself is wrong: an unknown name, a setting out of range."""

    exit_code = 2


class DataRefused(UnpromptedError):
    """The input is readable but cannot be used as it is."""

    exit_code = 3


class GeometryMismatch(DataRefused):
    """Two images that must share a grid do not."""


class LabelRefused(DataRefused):
    """A label file does not hold what a label map holds."""


class EmptySupport(DataRefused):
    """A class that should be segmented has no labelled example."""


class UnreadableFile(DataRefused):
    """A file is truncated, of an unknown type or of an unsupported shape."""


class StorageFull(UnpromptedError):
    """There is no room for more results; what is written stays."""


class OutOfMemory(UnpromptedError):
    """The machine, or a limit such as ``--max-memory``, refused memory."""


class SomeCasesFailed(UnpromptedError):
    """Some cases of a batch failed; all others are written."""

    exit_code = 4


class WeightsUnavailable(UnpromptedError):
    """Weights are missing and cannot be fetched, or their checksum is wrong."""

    exit_code = 5


def out_of_memory(error: BaseException) -> OutOfMemory | None:
    """What to raise for an error that means refused memory; None for one that means something else.

    Torch and the libraries below it tell refused memory as a RuntimeError.
    """
    refused = isinstance(error, RuntimeError) and _NO_ROOM.search(str(error))
    if isinstance(error, MemoryError) or refused:
        return OutOfMemory(
            "not enough memory; raise --max-memory where it is set, or take a smaller --input-size"
        )
    return None
