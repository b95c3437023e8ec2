"""Which data a run may use, and the record of what was done with it: the access policy and the audit log, as the pipeline needs them."""

from __future__ import annotations

import functools
from collections.abc import Iterable

from overseer_training.errors import NotAvailableError
from overseer_training.guards.audit import AuditLog
from overseer_training.guards.audit_chain import Event
from overseer_training.guards.keys import open_keys
from overseer_training.guards.policy import may_send, require
from overseer_training.guards.resources import SENSITIVITIES, describe_data

SHORT = 120  # characters of a name in the audit log


def admit(sources: Iterable[str]) -> None:
    """Refuse a run that would train on data which the owner's policy keeps from training.

    Args:
        sources: as `--sources` names them; what is no name of a source is a file of the owner's.

    Raises:
        UsageError: the policy does not allow one of them.
    """
    for source in dict.fromkeys(map(source_of, sources)):
        require("train", describe_data(source))


def source_of(name: str) -> str:
    """What the policy calls a source of rows."""
    known = name.partition("/")[0].partition(":")[0]
    return known if known in SENSITIVITIES else "files"


def check_keys() -> None:
    """Open the audit log, so that a passphrase which does not fit is said before the work and not after it.

    Raises:
        UsageError: the passphrase is wrong or too short.
        DataError: the keys are damaged.
    """
    _log()


def may_send_corpus(host: str) -> bool:
    """Whether requests and commands of the packaged corpus may go to `host`."""
    return may_send(describe_data("corpus"), host)


def record(event: Event, **fields: str | int) -> None:
    """Add to the audit log; signed where this user has keys, else only chained.

    Raises:
        DataError: the log cannot be written, or was signed before and cannot be now.
    """
    _log().append(event, **fields)


@functools.cache
def _log() -> AuditLog:
    try:
        return AuditLog(signer=open_keys().signing_key("audit"))
    except NotAvailableError:  # no keyring and no passphrase, as on most servers
        return AuditLog()
