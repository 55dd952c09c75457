"""The server of the review page."""

import socket
from pathlib import Path

import uvicorn

from unprompted.apps.batch.choices import Watcher
from unprompted.apps.batch.keep import Sources
from unprompted.apps.review.review import Review
from unprompted.apps.review.safety import check_address
from unprompted.apps.review.server import application
from unprompted.errors import UsageError

_KEEP_ALIVE_S, _MOST_REQUESTS = 15, 64


def serve(
    folder: Path,
    images: Path | None,
    task: Path | None,
    host: str,
    port: int,
    token: str | None,
    device: str,
    watch: Watcher,
) -> None:
    """Serve the review page of an output folder until it is interrupted.

    Args:
        folder: what `unprompted segment` wrote.
        images: what was segmented; None takes what the folder remembers.
        task: the fitted task; None takes what the folder remembers.
        host: address to listen at.
        port: 0 takes a free one.
        token: what readers must bring; needed where other machines reach the address.
        device: where cases are segmented again.
        watch: who is told the address.

    Raises:
        UsageError: the address needs a token or cannot be had, or the folder cannot be reviewed.
    """
    check_address(host, token)
    review = Review(folder, Sources.of(folder, images, task), device)
    try:
        with listening_at(host, port) as listening:
            _say(review, host, listening.getsockname()[1], token, watch)
            options = uvicorn.Config(
                application(review, host, token),
                access_log=False,  # addresses and times of readers are nobody's business
                log_level="warning",
                timeout_keep_alive=_KEEP_ALIVE_S,
                limit_concurrency=_MOST_REQUESTS,
                server_header=False,
            )
            uvicorn.Server(options).run(sockets=[listening])
    finally:
        review.close()


def _say(review: Review, host: str, port: int, token: str | None, watch: Watcher) -> None:
    if review.cohort.missing:
        watch.say("note", f"{review.cohort.missing} results have no image and are left out")
    if not review.overview()["teaches"]:
        watch.say("note", "no fitted task, so corrections are saved but do not teach; give one with -t TASK")
    name = f"[{host}]" if ":" in host else host
    watch.say("review", f"http://{name}:{port}/{'#token=YOUR_TOKEN' if token else ''}   (Ctrl-C ends it)")


def listening_at(host: str, port: int) -> socket.socket:
    """A socket that listens at an address; port 0 takes a free one.

    Raises:
        UsageError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen()  # who asks before the server is ready waits
    except OSError as error:
        listening.close()
        raise UsageError(f"cannot listen at {host}:{port} ({error}); choose another --port") from error
    return listening
