"""Where texts go: decides whether an address is this machine or allowed, opens HTTP to it, and names what went wrong.

Not covered: what a server on this machine does with the texts; Ollama's cloud models are looked for in ollama.py.
"""

from __future__ import annotations

import contextlib
import ipaddress
import urllib.parse
from collections.abc import Callable, Iterator

import httpx

from overseer_training.errors import UsageError
from overseer_training.teachers.protocol import TeacherError, one_line

Allow = Callable[[str], bool]  # host -> may texts be sent there?
TIMEOUT_SECONDS = 300.0  # chosen: a large model on a CPU needs minutes for a page of text
CONNECT_TIMEOUT_SECONDS = 10.0
TEMPORARY = {408, 409, 425, 429}
ABOUT_REQUEST = {400, 413, 414, 415, 422}


def allow_none(host: str) -> bool:
    """The default policy: nothing leaves this machine."""
    return False


def host_of(address: str) -> str:
    """The host in an http(s) address.

    Raises:
        UsageError: it is no such address, or carries a user name or password.
    """
    try:
        parts = urllib.parse.urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError("the address of a teacher cannot be read; it looks like http://127.0.0.1:8080") from error
    if "@" in parts.netloc:
        raise UsageError("the address of a teacher holds a login; give its key apart, where it is not shown")
    if parts.scheme not in ("http", "https") or not host:
        raise UsageError(f"{address!r} is not the address of a teacher; it looks like http://127.0.0.1:8080")
    return host


def is_loopback(host: str) -> bool:
    """Whether `host` is this machine, by what the name or number says; no name is looked up."""
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_destination(name: str, host: str, allow: Allow) -> None:
    """Refuse a host that is not this machine unless the policy allows it.

    Raises:
        TeacherError: it is not allowed.
    """
    if not is_loopback(host) and not allow(host):
        raise TeacherError(
            f"{name} would send your texts to {one_line(host)}, which the policy does not allow; "
            "allow that host, or use a teacher on this machine"
        )


def may_use_proxy(host: str) -> bool:
    """Whether a proxy of the environment may see requests to `host`: never those to this machine."""
    return not is_loopback(host)


def timeouts(seconds: float) -> httpx.Timeout:
    return httpx.Timeout(seconds, connect=min(seconds, CONNECT_TIMEOUT_SECONDS))


def status_error(name: str, status: int, detail: str, retry_after: str | None = None) -> TeacherError:
    """The error for an HTTP status of 300 and above.

    Args:
        detail: the server's own words.
        retry_after: the header of that name.
    """
    said = f": {one_line(detail)}" if detail.strip() else ""
    if status in TEMPORARY or status >= 500:
        return TeacherError(
            f"{name} answered {status}{said}; it may be overloaded: run again later",
            is_temporary=True,
            retry_after_seconds=_seconds(retry_after),
        )
    if status in (401, 403):
        return TeacherError(f"{name} answered {status}{said}; give it a valid key")
    if status == 404:
        return TeacherError(f"{name} answered 404{said}; check the model's name and the address")
    if 300 <= status < 400:
        return TeacherError(f"{name} redirects elsewhere ({status}), which is not followed; give the final address")
    return TeacherError(f"{name} answered {status}{said}", is_about_request=status in ABOUT_REQUEST)


@contextlib.contextmanager
def translated_failures(name: str) -> Iterator[None]:
    """Turn what httpx raises in the block into a `TeacherError`."""
    try:
        yield
    except httpx.ConnectError as error:
        raise TeacherError(f"{name} cannot be reached; start it, or check its address", is_temporary=True) from error
    except httpx.TimeoutException as error:
        raise TeacherError(f"{name} did not answer in time; it may need a longer timeout", is_temporary=True) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise TeacherError(f"{name} broke off: {one_line(str(error))}", is_temporary=True) from error


def unreadable(name: str, what: str) -> TeacherError:
    """The error for an answer that is not of the server's own protocol."""
    return TeacherError(f"{name} sent {what}; is it the right kind of server?", is_temporary=True)


def _seconds(retry_after: str | None) -> float | None:
    """The header as seconds; None for its other form, a date, which servers of this kind do not send."""
    try:
        return max(0.0, float(retry_after)) if retry_after else None
    except ValueError:
        return None
