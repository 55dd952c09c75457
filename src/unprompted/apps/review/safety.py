"""Who may ask the server for what: addresses, token, sizes, times and answers' headers."""

import asyncio
import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import HTTPException, Request

from unprompted.errors import UsageError

LEAST_TOKEN = 16  # characters
READ_TIMEOUT_S = 30.0
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; "
    "base-uri 'none'; form-action 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
Receive = Callable[[], Awaitable[Any]]


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_address(host: str, token: str | None) -> None:
    """Refuse to serve other machines without a token.

    Raises:
        UsageError: the address is no loopback and there is no token, or the token is short.
    """
    if token is not None and len(token) < LEAST_TOKEN:
        raise UsageError(f"the token has {len(token)} characters; at least {LEAST_TOKEN} are needed")
    if token is None and not is_loopback(host):
        raise UsageError(
            f"{host} can be reached from other machines, and patients' images would be open to them; set "
            "a token of your own in UNPROMPTED_TOKEN (try: openssl rand -hex 16)"
        )


def is_allowed(request: Request, token: str | None) -> bool:
    """Whether a request brings the token, where there is one."""
    if token is None:
        return True
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    return kind.lower() == "bearer" and hmac.compare_digest(given.encode(), token.encode())


def is_asked_by_name(request: Request, host: str) -> bool:
    """Whether a request to a loopback server names it so: pages of other sites cannot (DNS rebinding)."""
    if not is_loopback(host):
        return True
    name = request.headers.get("host", "").rsplit(":", 1)[0].strip("[]")
    return is_loopback(name)


async def body_of(request: Request, size: int) -> bytes:
    """The body of a request, of exactly the given size in bytes.

    Raises:
        HTTPException: 413 for a larger body, 400 for a smaller one, 408 for one that takes too long.
    """
    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told) > size:
        raise HTTPException(413, f"the body has {told} bytes, the slice {size}")
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            parts, got = [], 0
            async for part in request.stream():
                got += len(part)
                if got > size:
                    raise HTTPException(413, f"the body has more than the {size} bytes of the slice")
                parts.append(part)
    except TimeoutError as error:
        raise HTTPException(408, f"the body did not come within {READ_TIMEOUT_S:g} s") from error
    if got != size:
        raise HTTPException(400, f"the body has {got} bytes, the slice {size}")
    return b"".join(parts)
