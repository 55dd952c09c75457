"""Orders whose workers load no model: they end, or end themselves, as their cases are called."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from unprompted.apps.batch.outcome import Outcome
from unprompted.errors import StorageFull, WeightsUnavailable


@dataclass(frozen=True)
class PaperOrder:
    """A case called kill-* kills its worker; kill-once-* leaves a mark in `marks`, and does it once."""

    marks: Path
    broken: bool = False

    def worker(self, device):
        if self.broken:
            raise WeightsUnavailable("the weights are not here")
        return self

    def work_through(self, cases, done):
        for case in cases:
            mark = self.marks / case.name
            if case.name.startswith("kill") and not ("once" in case.name and mark.exists()):
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if case.name.startswith("full"):
                raise StorageFull("no room")
            done(Outcome(case.name, "written", output=str(os.getpid())))
