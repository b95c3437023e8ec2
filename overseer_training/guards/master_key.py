"""The key that wraps all others: random and in the keyring of the operating system, or made from a passphrase by Argon2id.

Takes the description of a master key as it stands in keys.json; gives 32 bytes. Where there is no keyring that encrypts, and no
passphrase, it gives an error: there is no way to keep sensitive data in the clear.

Not covered: Python cannot wipe memory, so a key stays in that of the process until it ends.
"""

from __future__ import annotations

import base64
import dataclasses
import os
import secrets
from collections.abc import Callable
from typing import Any, Literal

from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from overseer_training.errors import NotAvailableError, UsageError

AskPassphrase = Callable[[str], str]  # prompt -> passphrase, as getpass.getpass does
VARIABLE = "OVERSEER_PASSPHRASE"
KEYRING_SERVICE = "overseer-training"
KEY_BYTES = 32
SHORTEST_PASSPHRASE = 12  # characters; chosen
# These encrypt what they keep. Others, such as the plain text files of keyrings.alt, are not used.
TRUSTED_KEYRINGS = ("SecretService", "kwallet", "libsecret", "macOS", "Windows")


@dataclasses.dataclass(frozen=True)
class KdfParameters:
    """How hard a passphrase is to guess.

    Attributes:
        memory_kib: memory of one guess.

    Source: the second recommended option of RFC 9106, section 4 (64 MiB, 3 iterations, 4 lanes).
    """

    memory_kib: int = 64 * 1024
    iterations: int = 3
    lanes: int = 4

    def problem(self) -> str | None:
        """Why these are not used: less than the 19 MiB and 2 iterations that OWASP asks for at least, or more than anybody needs."""
        values = (self.memory_kib, self.iterations, self.lanes)
        within = ((19 * 1024, 4 * 1024 * 1024), (2, 100), (1, 64))
        if all(type(v) is int and low <= v <= high for v, (low, high) in zip(values, within, strict=True)):
            return None
        return f"{values[0]} KiB, {values[1]} iterations and {values[2]} lanes are out of bounds"


@dataclasses.dataclass(frozen=True)
class MasterKey:
    """A master key and what keys.json says of it, which is no secret."""

    key: bytes = dataclasses.field(repr=False)
    kind: Literal["keyring", "passphrase"]
    description: dict[str, Any]


def new_master_key(
    store: str, ask: AskPassphrase | None, kdf: KdfParameters, passphrase: str | None = None
) -> MasterKey:
    """A master key for the key store `store`: from the passphrase that was given, else in the keyring, else from one asked for.

    Raises:
        NotAvailableError: there is neither keyring nor passphrase.
        UsageError: the passphrase is too short.
    """
    passphrase = passphrase or os.environ.get(VARIABLE)
    if not passphrase and find_keyring() is not None:
        key, account = secrets.token_bytes(KEY_BYTES), f"master-{store}-{secrets.token_hex(4)}"
        _put_in_keyring(account, key)
        return MasterKey(key, "keyring", {"kind": "keyring", "account": account})
    if not passphrase and ask is not None:
        passphrase = ask(f"new passphrase for sensitive data (at least {SHORTEST_PASSPHRASE} characters): ")
        if ask("the same again: ") != passphrase:
            raise UsageError("the two passphrases differ; run the same command again")
    if not passphrase:
        raise _no_key()
    if len(passphrase) < SHORTEST_PASSPHRASE:
        raise UsageError(f"the passphrase is too short; take at least {SHORTEST_PASSPHRASE} characters")
    salt = secrets.token_bytes(16)
    description = {"kind": "passphrase", "salt": base64.b64encode(salt).decode(), **dataclasses.asdict(kdf)}
    return MasterKey(_derive(passphrase, salt, kdf), "passphrase", description)


def find_master_key(description: dict[str, Any], ask: AskPassphrase | None) -> MasterKey:
    """The key that `description` is about. Whether it is the right one shows only when it unwraps something.

    Raises:
        NotAvailableError: the keyring does not have it or cannot be asked, or there is no passphrase.
        ValueError, KeyError, TypeError: the description is damaged.
    """
    if description["kind"] == "keyring":
        key = _get_from_keyring(description["account"])
        return MasterKey(key, "keyring", description)
    if description["kind"] != "passphrase":
        raise ValueError(f"unknown kind of master key {description['kind']!r}")
    kdf = KdfParameters(*(description[field.name] for field in dataclasses.fields(KdfParameters)))
    problem = kdf.problem()
    if problem:
        raise ValueError(problem)
    passphrase = os.environ.get(VARIABLE) or (ask("passphrase for sensitive data: ") if ask else "")
    if not passphrase:
        raise _no_key()
    salt = base64.b64decode(description["salt"], validate=True)
    return MasterKey(_derive(passphrase, salt, kdf), "passphrase", description)


def forget_master_key(description: dict[str, Any]) -> None:
    """Take a master key that wraps nothing any more out of the keyring."""
    import keyring
    import keyring.errors

    if description["kind"] == "keyring":
        try:
            keyring.delete_password(KEYRING_SERVICE, description["account"])
        except keyring.errors.KeyringError:  # it wraps nothing, so that a copy left behind opens nothing
            return


def find_keyring() -> Any | None:
    """The operating system's keyring, or None where there is none that encrypts."""
    import keyring
    from keyring.backends import chainer

    found = keyring.get_keyring()
    candidates = found.backends if isinstance(found, chainer.ChainerBackend) else [found]
    for candidate in candidates:
        module = type(candidate).__module__.removeprefix("keyring.backends.").partition(".")[0]
        if module in TRUSTED_KEYRINGS:
            return candidate
    return None


def _put_in_keyring(account: str, key: bytes) -> None:
    import keyring.errors

    backend = find_keyring()
    try:
        if backend is not None:
            backend.set_password(KEYRING_SERVICE, account, base64.b64encode(key).decode())
            return
    except keyring.errors.KeyringError as error:
        raise NotAvailableError(f"the keyring refuses ({error}); unlock it, or set {VARIABLE}") from error
    raise _no_key()


def _get_from_keyring(account: str) -> bytes:
    import keyring.errors

    backend = find_keyring()
    if backend is None:
        raise NotAvailableError(
            "the keys are locked by a keyring that cannot be reached; log in to the desktop that has it"
        )
    try:
        found = backend.get_password(KEYRING_SERVICE, account)
    except keyring.errors.KeyringError as error:
        raise NotAvailableError(
            f"the keyring cannot be opened ({error}); unlock it and run the same command"
        ) from error
    if found is None:
        raise NotAvailableError(
            f"the keyring has no {KEYRING_SERVICE} {account}; put it back, or what it encrypts is lost"
        )
    return base64.b64decode(found, validate=True)


def _derive(passphrase: str, salt: bytes, kdf: KdfParameters) -> bytes:
    made = Argon2id(salt=salt, length=KEY_BYTES, iterations=kdf.iterations, lanes=kdf.lanes, memory_cost=kdf.memory_kib)
    return bytes(made.derive(passphrase.encode()))


def _no_key() -> NotAvailableError:
    return NotAvailableError(
        f"sensitive data is kept encrypted, and there is no keyring here; set {VARIABLE}, or run this in a terminal"
    )
