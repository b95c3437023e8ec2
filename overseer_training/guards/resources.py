"""What the policy decides about: users, the data sets of each source with their sensitivity, and endpoints.

Takes names and addresses; gives records. Looks host names up, and opens no connection.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import pwd
import socket
import urllib.parse
from typing import Literal

from overseer_training.errors import UsageError

Sensitivity = Literal["public", "internal", "confidential"]
# Public: anybody has it. Internal: says what this machine has or what its user fetched. Confidential: says what a person does.
SENSITIVITIES: dict[str, Sensitivity] = {
    "corpus": "public",
    "tldr": "public",
    "manual": "internal",
    "help": "internal",
    "kaggle": "internal",
    "history": "confidential",
    "interactions": "confidential",
    "telemetry": "confidential",
    "files": "confidential",
}


@dataclasses.dataclass(frozen=True)
class DataSet:
    """Rows of one source.

    Attributes:
        source: a key of `SENSITIVITIES`.
        name: which of the source's sets; `*` for all of it.
        owner: the login name of the user whose data it is.
    """

    source: str
    name: str
    owner: str
    sensitivity: Sensitivity

    def __str__(self) -> str:
        return self.source if self.name == "*" else f"{self.source}/{self.name}"


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """Where texts would be sent.

    Attributes:
        addresses: what the host name resolved to when it was asked; a connection that looks the name up again may get others.
        is_loopback: every one of them is this machine.
    """

    host: str
    addresses: tuple[str, ...]
    is_loopback: bool


def current_user() -> str:
    """The login name of the user that this process acts for; the number where the system has no name for it."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def describe_data(source: str, name: str = "*", owner: str | None = None) -> DataSet:
    """The data set `name` of `source`; its owner is this user unless another is named.

    Raises:
        UsageError: there is no such source.
    """
    if source not in SENSITIVITIES:
        raise UsageError(f"unknown source {source!r}; the policy knows {', '.join(SENSITIVITIES)}")
    return DataSet(source, name, owner or current_user(), SENSITIVITIES[source])


def describe_endpoint(url: str) -> Endpoint:
    """The host that `url` leads to. A name that cannot be resolved is taken for another machine.

    Raises:
        UsageError: it is no http(s) address.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError("the address of the endpoint cannot be read; it looks like http://127.0.0.1:8080") from error
    if parts.scheme not in ("http", "https") or not host:
        raise UsageError("that is not the address of an endpoint; it looks like http://127.0.0.1:8080")
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return Endpoint(host, (), False)
    addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
    return Endpoint(host, addresses, bool(addresses) and all(_is_loopback(address) for address in addresses))


def _is_loopback(address: str) -> bool:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(parsed, "ipv4_mapped", None)
    return bool((mapped or parsed).is_loopback)
