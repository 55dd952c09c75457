"""Cases handed to workers that die, in a crew that only exists on paper."""

from collections import deque
from pathlib import Path

import pytest

from unprompted.apps.batch.crew import Event, Schedule, work_off
from unprompted.apps.batch.outcome import Outcome
from unprompted.datasets.base import CaseFiles
from unprompted.errors import UnpromptedError


def cases(*names):
    return [CaseFiles(name, Path(name)) for name in names]


class PaperCrew:
    """Workers that end one case an event; a case in `deadly` kills whoever takes it up."""

    def __init__(self, deadly=(), dies_early=False):
        self.deadly, self.dies_early = deadly, dies_early
        self.started, self.stopped, self.got = 0, False, {}
        self.new = []

    def start(self):
        self.started += 1
        self.new.append(self.started)
        return self.started

    def send(self, worker, case):
        self.got[worker].append(case.name)

    def events(self, timeout_s):
        found = [self._begun(worker) for worker in self.new]
        self.new = []
        for worker, names in list(self.got.items()):
            if names and names[0] in self.deadly:
                del self.got[worker]
                found.append(Event(worker, died="shot"))
            elif names:
                found.append(Event(worker, Outcome(names.pop(0), "written")))
        return found

    def stop(self):
        self.stopped = True

    def _begun(self, worker):
        if self.dies_early:
            return Event(worker, died="shot")
        self.got[worker] = []
        return Event(worker)


def worked_off(crew, workers, names):
    ended = []
    work_off(crew, workers, cases(*names), ended.append)
    return {outcome.case: outcome.status for outcome in ended}, len(ended)


def test_every_case_is_ended_once():
    crew = PaperCrew()
    statuses, count = worked_off(crew, 2, "abcdefg")
    assert statuses == dict.fromkeys("abcdefg", "written")
    assert count == 7
    assert crew.started == 2
    assert crew.stopped


def test_a_case_that_kills_its_worker_twice_is_given_up_and_its_neighbours_are_not():
    crew = PaperCrew(deadly="c")
    statuses, count = worked_off(crew, 1, "abcdefg")
    assert statuses == dict.fromkeys("abdefg", "written") | {"c": "failed"}
    assert count == 7
    assert crew.started == 3  # one, and one for each death


def test_two_deadly_cases_beside_each_other_take_no_other_along():
    statuses, _ = worked_off(PaperCrew(deadly="bc"), 2, "abcdef")
    assert statuses == dict.fromkeys("adef", "written") | {"b": "failed", "c": "failed"}


def test_a_case_that_a_worker_died_with_is_tried_again_alone():
    schedule = Schedule(deque(cases("a", "b", "c", "d")), workers=1)
    assert [schedule.next_for(1).name for _ in range(3)] == ["a", "b", "c"]
    assert schedule.next_for(1) is None  # three are enough
    assert schedule.lost(1) == []
    assert schedule.next_for(2).name == "a"
    assert schedule.next_for(2) is None
    schedule.done(2, "a")
    assert schedule.next_for(2).name == "b"


def test_the_last_cases_are_shared_out():
    schedule = Schedule(deque(cases("a", "b", "c")), workers=2)
    assert [schedule.next_for(1).name for _ in range(2)] == ["a", "b"]
    assert schedule.next_for(1) is None
    assert schedule.next_for(2).name == "c"


def test_workers_that_never_become_ready_end_the_run():
    crew = PaperCrew(dies_early=True)
    with pytest.raises(UnpromptedError, match="workers die before they are ready: shot"):
        worked_off(crew, 2, "abc")
    assert crew.stopped
