"""Which of several processes this is, where `accelerate launch` started them to train together."""

import os


def several() -> bool:
    """Whether there is more than one process."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def leads() -> bool:
    """Whether this process is the only one, or the one of several that writes and speaks."""
    return int(os.environ.get("RANK", "0")) == 0


def own_gpu() -> str:
    """The torch name of the GPU of this process, should the machine have any."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if "LOCAL_RANK" in os.environ else "cuda"
