"""Workers as processes of this machine, one a device or several."""

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from unprompted.apps.batch.crew import Event
from unprompted.apps.batch.outcome import Outcome
from unprompted.apps.batch.work import Order
from unprompted.datasets.base import CaseFiles
from unprompted.errors import UnpromptedError
from unprompted.launched import die_with_parent

# Spawned, not forked: CUDA and threads do not survive a fork.
_CONTEXT = multiprocessing.get_context("spawn")
_READY = "ready"


class ProcessCrew:
    """Processes that each hold a model.

    Args:
        order: what they do.
        devices: where they run, in turn.
        workers: how many there will be at once; they share the cores.
    """

    def __init__(self, order: Order, devices: Sequence[str], workers: int) -> None:
        self._order = order
        self._devices = devices
        self._threads = max(1, (os.cpu_count() or 1) // workers)
        self._living: dict[int, tuple[BaseProcess, Connection, str]] = {}
        self._free = list(devices) * -(-workers // len(devices))
        self._started = 0

    def start(self) -> int:
        """A new process on the device of the last that died, or on the next one."""
        device, number = self._free.pop(0), self._started
        ours, theirs = _CONTEXT.Pipe()
        process = _CONTEXT.Process(
            target=_work,
            args=(self._order, device, theirs, self._threads),
            name=f"worker {number}",
            daemon=True,
        )
        process.start()
        theirs.close()  # so that its end is seen here
        self._living[number] = process, ours, device
        self._started += 1
        return number

    def send(self, worker: int, case: CaseFiles) -> None:
        """Put a case into the worker's pipe."""
        with suppress(OSError):  # it has just died, which the next event tells
            self._living[worker][1].send(case)

    def events(self, timeout_s: float) -> list[Event]:
        """Messages of workers, and deaths once all messages of the dead are read."""
        found = []
        by_pipe = {pipe: number for number, (_, pipe, _) in self._living.items()}
        for pipe in wait(list(by_pipe), timeout_s):
            number = by_pipe[pipe]  # type: ignore[index]
            try:
                found.append(_event(number, self._living[number][1].recv()))
            except (EOFError, OSError):
                found.append(Event(number, died=self._buried(number)))
        return found

    def stop(self) -> None:
        """Kill what is left: a case is written whole or not at all."""
        for process, pipe, _ in self._living.values():
            process.kill()
            process.join()
            pipe.close()
        self._living.clear()

    def _buried(self, number: int) -> str:
        process, pipe, device = self._living.pop(number)
        pipe.close()
        process.join()
        self._free.insert(0, device)
        code = process.exitcode or 0
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"{process.name} on {device} died, {how}"


def _event(number: int, message: Any) -> Event:
    if isinstance(message, Exception):
        raise message
    return Event(number, outcome=message if isinstance(message, Outcome) else None)


def _work(order: Order, device: str, pipe: Connection, threads: int) -> None:
    """The life of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all; the parent decides
    die_with_parent()
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # torch reads it when it is first imported
    try:
        worker = order.worker(device)
        pipe.send(_READY)
        worker.work_through(_cases(pipe), pipe.send)
    except Exception as error:  # what one worker cannot do, no other can
        known = isinstance(error, UnpromptedError)
        pipe.send(error if known else UnpromptedError(f"{type(error).__name__}: {error}"))
    os._exit(0)  # the thread that waits for more cases would keep the process


def _cases(pipe: Connection) -> Iterator[CaseFiles]:
    while True:
        try:
            yield pipe.recv()
        except EOFError:
            return
