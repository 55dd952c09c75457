"""How a case ended, and which failures end the whole run."""

import errno
import logging
from dataclasses import dataclass
from typing import Literal

from unprompted.apps.batch.memory import told
from unprompted.errors import StorageFull, UnpromptedError

Status = Literal["written", "finished before", "failed", "not reached"]
_LOG = logging.getLogger(__name__)
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Outcome:
    """How one case ended.

    Attributes:
        case: its name.
        status: "finished before" means by an earlier run of equal configuration.
        output: name of what was written, None for a failed case.
        quality: mean over the classes found, None where none was found.
        predicted_dice: mean over the classes that can be judged, None where none can.
        review: classes that someone should look at.
        elapsed_s: seconds it took.
        error: what went wrong.
        exit_code: of a program that fails for this.
    """

    case: str
    status: Status
    output: str | None = None
    quality: float | None = None
    predicted_dice: float | None = None
    review: tuple[str, ...] = ()
    elapsed_s: float = 0.0
    error: str | None = None
    exit_code: int = 0


def failed(case: str, error: BaseException) -> Outcome:
    """The outcome of a case that ended with an error.

    Raises:
        StorageFull: it ended because nothing more can be written, which no other case would survive.
    """
    if _is_full(error):
        raise StorageFull(
            f"there is no room for the results of {case} ({error}); what is written stays: free some "
            "space and run the same command again"
        ) from error
    _LOG.debug("%s failed", case, exc_info=error)
    error = told(error)
    if isinstance(error, UnpromptedError):
        return Outcome(case, "failed", error=str(error), exit_code=error.exit_code)
    return Outcome(case, "failed", error=f"{type(error).__name__}: {error}", exit_code=1)


def _is_full(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        error = error.__cause__
    return False
