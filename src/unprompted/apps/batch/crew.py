"""Handing cases to workers that may die: who does what, and what becomes of the cases of a dead one."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from unprompted.apps.batch.outcome import Outcome
from unprompted.datasets.base import CaseFiles
from unprompted.errors import UnpromptedError

AHEAD = 3  # cases a worker holds: one it reads, one it computes, one it writes
_TRIES = 2  # how often a case may be with a worker that dies
_STARTS = 3  # how often in a row workers may die before they are ready
_PATIENCE_S = 900.0  # without a single worker


@dataclass(frozen=True)
class Event:
    """Something that happened to a worker.

    Attributes:
        worker: its number.
        outcome: of a case it ended; None where it became ready or died.
        died: why it is gone; None while it lives.
    """

    worker: int
    outcome: Outcome | None = None
    died: str | None = None


class Crew(Protocol):
    """Workers elsewhere: processes of this machine, actors of a cluster."""

    def start(self) -> int:
        """Start a worker; its number. An event tells when it is ready."""
        ...

    def send(self, worker: int, case: CaseFiles) -> None:
        """Give a worker one more case."""
        ...

    def events(self, timeout_s: float) -> Sequence[Event]:
        """What has happened, waited for at most so long.

        Raises:
            UnpromptedError: a worker cannot work, and neither could another.
        """
        ...

    def stop(self) -> None:
        """End all workers."""
        ...


@dataclass(eq=False)
class Schedule:
    """Which case comes next, and to whom.

    A case that was with a dead worker is tried once more, alone: a neighbour is not to blame for it.

    Attributes:
        waiting: cases nobody has.
        workers: how many share them.
        suspects: cases a dead worker had.
        held: worker to the cases it has.
        deaths: case to the workers that died with it.
    """

    waiting: deque[CaseFiles]
    workers: int
    suspects: deque[CaseFiles] = field(default_factory=deque)
    held: dict[int, list[CaseFiles]] = field(default_factory=dict)
    deaths: dict[str, int] = field(default_factory=dict)

    def next_for(self, worker: int) -> CaseFiles | None:
        """The case a worker should get now, None where it has enough."""
        mine = self.held.setdefault(worker, [])
        if any(case.name in self.deaths for case in mine):
            return None
        if self.suspects and not mine:
            mine.append(self.suspects.popleft())
        elif not self.suspects and self.waiting and len(mine) < self._share:
            mine.append(self.waiting.popleft())
        else:
            return None
        return mine[-1]

    def done(self, worker: int, case: str) -> None:
        """A worker has ended a case."""
        self.held[worker] = [held for held in self.held[worker] if held.name != case]

    def lost(self, worker: int) -> list[CaseFiles]:
        """A worker is gone; the cases that are given up for it."""
        given_up: list[CaseFiles] = []
        for case in self.held.pop(worker, []):
            self.deaths[case.name] = self.deaths.get(case.name, 0) + 1
            (self.suspects if self.deaths[case.name] < _TRIES else given_up).append(case)
        return given_up

    @property
    def _share(self) -> int:
        """Cases a worker may hold: towards the end fewer, so that none is idle beside a busy one."""
        left = len(self.waiting) + sum(len(mine) for mine in self.held.values())
        return min(AHEAD, -(-left // self.workers))

    @property
    def left(self) -> bool:
        """Whether any case is not ended."""
        return bool(self.waiting or self.suspects or any(self.held.values()))


def work_off(
    crew: Crew,
    workers: int,
    cases: Sequence[CaseFiles],
    done: Callable[[Outcome], None],
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Segment cases with several workers; dead ones are replaced.

    Args:
        crew: where the workers are.
        workers: how many.
        cases: what to segment.
        done: told how each case ended.
        say: told about dead workers.

    Raises:
        UnpromptedError: no worker can work.
    """
    schedule = Schedule(deque(cases), workers)
    starts_lost, alone_since = 0, time.monotonic()
    try:
        for _ in range(min(workers, len(cases))):
            crew.start()
        while schedule.left:
            for event in crew.events(1.0):
                if event.outcome is not None:
                    schedule.done(event.worker, event.outcome.case)
                    done(event.outcome)
                elif event.died is None:
                    starts_lost = 0
                    schedule.held[event.worker] = []
                else:
                    starts_lost += event.worker not in schedule.held
                    for case in schedule.lost(event.worker):
                        words = f"its worker died twice ({event.died}), out of memory perhaps"
                        done(Outcome(case.name, "failed", error=words, exit_code=1))
                    if starts_lost >= _STARTS:
                        raise UnpromptedError(f"workers die before they are ready: {event.died}")
                    if schedule.left:
                        say(f"{event.died}; another takes its place")
                        crew.start()
            for worker in list(schedule.held):
                while (given := schedule.next_for(worker)) is not None:
                    crew.send(worker, given)
            if schedule.held:
                alone_since = time.monotonic()
            elif time.monotonic() - alone_since > _PATIENCE_S:
                raise UnpromptedError(f"no worker was ready for {_PATIENCE_S:.0f} s; is there room for one?")
    finally:
        crew.stop()
