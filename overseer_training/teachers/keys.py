"""API keys: where they are found, and how they are kept out of files, logs, messages and the process title.

A key given as an argument can be seen by every user of the machine until `hide_from_process_title` ran, a moment after the
start; one in the environment or the keyring cannot.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from overseer_training.errors import UsageError

KEYRING_SERVICE = "overseer-training"
HIDDEN = "<hidden>"


class ApiKey:
    """A key that shows itself to nobody who does not ask for it with `reveal`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        """Raises UsageError: the key is empty or has blanks or characters that no header can carry."""
        value = value.strip()
        if not value or not value.isascii() or not value.isprintable() or " " in value:
            raise UsageError("the API key is empty or not a key; copy it again from where it was issued")
        self._value = value

    def reveal(self) -> str:
        """The key itself, for the client that sends it."""
        return self._value

    def redact(self, text: str) -> str:
        """`text` without the key, for messages that a server wrote."""
        return text.replace(self._value, HIDDEN)

    def __repr__(self) -> str:
        return f"ApiKey({HIDDEN})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an API key is not written anywhere")


def find_key(argument: str | None, variable: str = "GEMINI_API_KEY", account: str = "gemini") -> ApiKey:
    """The key given as an argument, else in the environment, else in the keyring of this user.

    Raises:
        UsageError: there is none, or it is no key.
    """
    value = argument or os.environ.get(variable) or _from_keyring(account)
    if not value:
        raise UsageError(
            f"there is no API key; set {variable}, or store it with: keyring set {KEYRING_SERVICE} {account}"
        )
    return ApiKey(value)


def hide_from_process_title(key: ApiKey) -> None:
    """Take the key out of what `ps` shows of this process, and out of `sys.argv` and `sys.orig_argv`."""
    import setproctitle

    sys.argv[:] = [key.redact(argument) for argument in sys.argv]
    sys.orig_argv[:] = [key.redact(argument) for argument in sys.orig_argv]
    setproctitle.setproctitle(" ".join(sys.orig_argv))


def _from_keyring(account: str) -> str | None:
    import keyring
    import keyring.errors

    try:
        return keyring.get_password(KEYRING_SERVICE, account)
    except keyring.errors.KeyringError:  # a machine without a desktop has no keyring
        return None
