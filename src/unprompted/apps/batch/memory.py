"""``--max-memory``: what a run may hold in main memory, chosen for and kept by the operating system."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from unprompted.errors import UsageError, out_of_memory

if TYPE_CHECKING:
    from unprompted.engine.limits import Limits
    from unprompted.segmenter import FittedSegmenter

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_STATUS = Path("/proc/self/status")


def bytes_of(text: str | None) -> int | None:
    """The bytes of ``4GB``, ``800 MiB`` or a plain number; units are powers of 1024.

    Raises:
        UsageError: it is none of these.
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if found is None or float(found[1]) == 0:
        raise UsageError(f"--max-memory is {text!r}; give a size such as 4GB or 800MB")
    return int(float(found[1]) * _UNITS[found[2].upper()])


@contextmanager
def limited(most: int | None) -> Iterator[None]:
    """Have the operating system refuse this process more private memory than that.

    Raises:
        UsageError: there is no such limit on this system.
        OutOfMemory: what was asked for did not fit.
    """
    if most is None:
        yield
        return
    import resource

    if not _STATUS.exists():
        raise UsageError("--max-memory works on Linux only; leave it out")
    before = resource.getrlimit(resource.RLIMIT_DATA)
    allowed = _held("VmData") + max(0, most - _held("VmRSS"))
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, before[1]))
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        raise told(error) from error
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def told(error: BaseException) -> BaseException:
    """The error, or where it means that memory was refused, one that says so."""
    return out_of_memory(error) or error


def limits_for(most: int | None, task: "FittedSegmenter") -> "Limits":
    """What sweeps of a task may hold, now that the model and the support are loaded.

    Raises:
        UsageError: one frame of one class does not fit.
    """
    from unprompted.engine.limits import DEFAULT_LIMITS, Limits

    if most is None:
        return DEFAULT_LIMITS
    return Limits.within(most - _held("VmRSS"), task.backbone, len(task.support.classes))


def _held(name: str) -> int:
    """Bytes this process holds, of a field of ``/proc/self/status``."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
    return int(found[1]) << 10 if found else 0
