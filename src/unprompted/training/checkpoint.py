"""Where unfinished training is kept, so that the same call goes on from there."""

import logging
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

_LOG = logging.getLogger(__name__)
_UNREADABLE = (OSError, ValueError, RuntimeError, EOFError, LookupError, pickle.UnpicklingError)


@dataclass(frozen=True)
class Checkpoint:
    """A file of tensors and numbers; no code runs when it is read.

    Attributes:
        path: the file; None keeps nothing.
    """

    path: Path | None = None

    def __bool__(self) -> bool:
        return self.path is not None

    def load(self) -> dict[str, Any] | None:
        """What was kept, None where there is nothing or it cannot be read."""
        if self.path is None or not self.path.is_file():
            return None
        try:
            found: dict[str, Any] = torch.load(self.path, map_location="cpu", weights_only=True)
        except _UNREADABLE as error:
            _LOG.warning("%s cannot be read (%s); training begins anew", self.path, error)
            return None
        return found

    def save(self, state: dict[str, Any]) -> None:
        """Keep a state; a kill meanwhile leaves the one before."""
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            part = self.path.with_name(self.path.name + ".part")
            torch.save(state, part)
            part.replace(self.path)

    def clear(self) -> None:
        """Keep nothing any longer."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)


NO_CHECKPOINT = Checkpoint()
