"""What a process knows of others: which of those of `accelerate launch` it is, and when its parent ends."""

import multiprocessing
import os
import threading
from typing import Any


def several() -> bool:
    """Whether there is more than one process."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def leads() -> bool:
    """Whether this process is the only one, or the one of several that writes and speaks."""
    return int(os.environ.get("RANK", "0")) == 0


def own_gpu() -> str:
    """The torch name of the GPU of this process, should the machine have any."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else "cuda"


def die_with_parent() -> None:
    """End this process, one of `multiprocessing`, as soon as its parent is gone, killed or not."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_outlive, args=(parent,), daemon=True).start()


def _outlive(parent: Any) -> None:
    parent.join()
    os._exit(1)
