"""Workers as actors of a Ray cluster: each holds a model, cases are its tasks."""

import logging
import queue
import re
import socket
import threading
from concurrent.futures import Future
from typing import Any

from unprompted.apps.batch.crew import AHEAD, Event
from unprompted.apps.batch.outcome import Outcome
from unprompted.apps.batch.work import CaseWorker, Order
from unprompted.datasets.base import CaseFiles
from unprompted.errors import UnpromptedError, UsageError

_KNOCK_S = 10.0


class Actor:
    """A model in a process of the cluster; several calls at once overlap as in `CaseWorker`.

    Args:
        order: what to do.
        device: where the model runs.
    """

    def __init__(self, order: Order, device: str) -> None:
        self._order = order
        self._device = device
        self._cases: queue.SimpleQueue[CaseFiles] = queue.SimpleQueue()
        self._open: dict[str, Future[Outcome]] = {}

    def load(self) -> None:
        """Load the model; comes first, and not in the constructor, whose errors Ray tells as a death."""
        worker = self._order.worker(self._device)
        threading.Thread(target=self._work, args=(worker,), daemon=True).start()

    def segment(self, case: CaseFiles) -> Outcome:
        """How the case ended."""
        outcome = self._open[case.name] = Future()
        self._cases.put(case)
        return outcome.result()

    def _work(self, worker: CaseWorker) -> None:
        def done(outcome: Outcome) -> None:
            self._open.pop(outcome.case).set_result(outcome)

        try:
            worker.work_through(iter(self._cases.get, None), done)
        except UnpromptedError as error:  # no more results fit
            for waiting in self._open.values():
                waiting.set_exception(error)


class RayCrew:
    """Actors on the nodes of a cluster.

    Args:
        order: what they do.
        address: of the cluster, as `ray.init` takes it: "auto", "HOST:PORT", "ray://HOST:PORT", "local".
        device: of the workers; "auto" takes GPUs where the cluster has some.
        workers: how many; None takes one for every GPU, or else for every CPU.

    Raises:
        UsageError: Ray is not installed, or no cluster answers.
    """

    def __init__(self, order: Order, address: str, device: str, workers: int | None) -> None:
        ray, self._joined = _connected(address)
        self._ray = ray
        has = ray.cluster_resources()
        gpus = int(has.get("GPU", 0)) if device != "cpu" else 0
        self._device = device if device != "auto" else ("cuda" if gpus else "cpu")
        self.workers = workers or gpus or int(has.get("CPU", 1))
        self.nodes = sum(node["Alive"] for node in ray.nodes())
        self._order = ray.put(order)
        self._kind = ray.remote(Actor).options(
            num_cpus=1, num_gpus=int(self._device != "cpu"), max_concurrency=AHEAD + 1, max_restarts=0
        )
        self._actors: dict[int, Any] = {}
        self._calls: dict[Any, tuple[int, bool]] = {}
        self._started = 0

    def start(self) -> int:
        """A new actor, wherever there is room; now or later."""
        number = self._started
        self._started += 1
        actor = self._actors[number] = self._kind.remote(self._order, self._device)
        self._calls[actor.load.remote()] = number, True
        return number

    def send(self, worker: int, case: CaseFiles) -> None:
        """One more call of the actor."""
        self._calls[self._actors[worker].segment.remote(case)] = worker, False

    def events(self, timeout_s: float) -> list[Event]:
        """Calls that have ended, and actors that are gone."""
        ended, _ = self._ray.wait(list(self._calls), num_returns=1, timeout=timeout_s)
        return [event for call in ended for event in self._event(call)]

    def stop(self) -> None:
        """Kill the actors and leave the cluster."""
        for actor in self._actors.values():
            self._ray.kill(actor)
        self._actors.clear()
        if self._joined:
            self._ray.shutdown()

    def _event(self, call: Any) -> list[Event]:
        errors = self._ray.exceptions
        number, starting = self._calls.pop(call)
        if number not in self._actors:
            return []  # a call of an actor that is known to be gone
        try:
            outcome = self._ray.get(call)
        except errors.RayActorError:
            del self._actors[number]
            return [Event(number, died=f"worker {number} of the cluster died")]
        except errors.RayTaskError as error:
            cause = error.cause
            raise cause if isinstance(cause, UnpromptedError) else UnpromptedError(str(cause)) from error
        return [Event(number, outcome=None if starting else outcome)]


def _knock(address: str) -> None:
    """Do nothing where somebody listens; Ray itself would try for many minutes.

    Raises:
        OSError: nobody does.
    """
    if found := re.fullmatch(r"(?:ray://)?([^/]+):(\d+)", address):
        socket.create_connection((found[1], int(found[2])), timeout=_KNOCK_S).close()


def _connected(address: str) -> tuple[Any, bool]:
    """Ray, and whether this call has joined the cluster."""
    try:
        import ray
    except ImportError as error:
        raise UsageError("--ray needs Ray; install it with: pip install 'unprompted[ray]'") from error
    if ray.is_initialized():
        return ray, False
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(f"no Ray cluster answers at {address!r} ({reason})") from error
    return ray, True
