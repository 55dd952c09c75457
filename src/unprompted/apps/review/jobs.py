"""Work that takes longer than an answer: one thing at a time, followed by the page."""

import logging
import queue
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from unprompted.errors import UnpromptedError, UsageError, out_of_memory

_LOG = logging.getLogger(__name__)
_WAITING, _REMEMBERED = 50, 200


@dataclass
class Job:
    """One piece of work.

    Attributes:
        key: opaque.
        state: "waiting", "running", "done" or "failed".
        what: it is doing.
        done: how far it is, 0 to 1.
        result: JSON types, once done.
        error: for people, once failed.
    """

    key: str = field(default_factory=lambda: secrets.token_hex(8))
    state: str = "waiting"
    what: str = "waiting"
    done: float = 0.0
    result: Any = None
    error: str = ""

    def say(self, topic: str, text: str) -> None:
        """Follow what a run says: nothing of it is for the page."""

    def progress(self, what: str, done: float, of: float) -> None:
        """Follow how far a run is."""
        self.what, self.done = what, done / of if of else 1.0


class Jobs:
    """A queue with one worker; the model is used by one thread only."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._queue: queue.Queue[tuple[Job, Callable[[Job], Any]] | None] = queue.Queue(_WAITING)
        self._worker = threading.Thread(target=self._work, name="review-jobs", daemon=True)
        self._worker.start()

    def start(self, work: Callable[[Job], Any]) -> Job:
        """Queue some work, which gets its job to tell how far it is.

        Raises:
            UsageError: too much is waiting already.
        """
        job = Job()
        try:
            self._queue.put_nowait((job, work))
        except queue.Full as error:
            raise UsageError(f"{_WAITING} jobs are waiting already; try again when some are done") from error
        self._jobs[job.key] = job
        while len(self._jobs) > _REMEMBERED:
            self._jobs.popitem(last=False)
        return job

    def get(self, key: str) -> Job | None:
        """A job by its key."""
        return self._jobs.get(key)

    def close(self) -> None:
        """End when the work in hand is done; what waits is dropped."""
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put(None)

    def _work(self) -> None:
        while (entry := self._queue.get()) is not None:
            job, work = entry
            job.state = "running"
            try:
                job.result = work(job)
                job.state, job.done = "done", 1.0
            except Exception as error:  # whatever it is, the page goes on
                _LOG.debug("job %s failed", job.key, exc_info=True)
                error = out_of_memory(error) or error
                known = isinstance(error, UnpromptedError)
                job.error = str(error) if known else f"{type(error).__name__}: {error}"
                job.state = "failed"
