"""The keys of sensitive data: one for each set, wrapped by the master key, in keys.json.

Takes a name; gives 32 bytes. keys.json holds no key in the clear: each is encrypted with AES-256-GCM under the master key
(master_key.py), with store, name and version as associated data, so that one cannot be put in another's place. `rotate_master` wraps
the same keys again and leaves data as it is; `rotate_data_key` makes a new version, with which encryption.py writes what it re-encrypts.

    keys = open_keys(ask=getpass.getpass)
    keys.data_key("interactions")        32 bytes, the same at each call

Not covered: whoever can read this user's keyring or memory, root among them, has the keys. Without them, whoever can write keys.json
can destroy it and with it the data, and cannot read any. A copy of keys.json from before a rotation still opens with its old passphrase.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import pathlib
import secrets
from collections.abc import Iterator
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from overseer_training.errors import DataError, UsageError
from overseer_training.guards.folders import make_private_folder, read_json, state_folder, write_private_json
from overseer_training.guards.master_key import (
    KEY_BYTES,
    AskPassphrase,
    KdfParameters,
    MasterKey,
    find_master_key,
    forget_master_key,
    new_master_key,
)

FORMAT = 1
NONCE_BYTES = 12
CHECK = "check"  # wrapped like a key, so that a wrong master key shows before anything is read or added


class Keys:
    """The keys of one store; `open_keys` makes it. Every change is on disk when its function returns."""

    def __init__(self, path: pathlib.Path, master: MasterKey) -> None:
        self._path = path
        self._master = master

    @property
    def kind(self) -> str:
        """`keyring` or `passphrase`."""
        return self._master.kind

    def data_key(self, name: str, version: int | None = None) -> bytes:
        """The 32 bytes of the key `name`, its newest version unless one is named; made when there is none yet.

        Raises:
            UsageError: there is no such version.
            DataError: keys.json was changed by somebody else.
        """
        document = self._read()
        if name not in document["keys"] and version is None:
            with self._changed() as document:
                if name not in document["keys"]:
                    document["keys"][name] = {"1": self._wrap(document, name, 1, secrets.token_bytes(KEY_BYTES))}
        versions = document["keys"].get(name, {})
        chosen = str(version or max(map(int, versions), default=0))
        if chosen not in versions:
            raise UsageError(
                f"there is no version {chosen} of the key {name!r}; what it encrypts cannot be read any more"
            )
        return self._unwrap(document, name, int(chosen), versions[chosen])

    def newest_version(self, name: str) -> int:
        """The version that `data_key` gives, 1 for a key that is not made yet."""
        return max(map(int, self._read()["keys"].get(name, {})), default=1)

    def names(self) -> list[str]:
        """The names of all keys."""
        return sorted(self._read()["keys"])

    def signing_key(self, name: str) -> Ed25519PrivateKey:
        """An Ed25519 key, the same at each call, kept like a data key."""
        return Ed25519PrivateKey.from_private_bytes(self.data_key(f"signing:{name}"))

    def rotate_data_key(self, name: str) -> int:
        """Make a new version of the key `name`; older ones stay until `drop_old_versions`. Gives the version."""
        self.data_key(name)
        with self._changed() as document:
            version = max(map(int, document["keys"][name])) + 1
            document["keys"][name][str(version)] = self._wrap(document, name, version, secrets.token_bytes(KEY_BYTES))
        return version

    def drop_old_versions(self, name: str) -> None:
        """Keep only the newest version of the key `name`: files that were not re-encrypted are lost after this."""
        with self._changed() as document:
            versions = document["keys"].get(name, {})
            document["keys"][name] = {
                key: value for key, value in versions.items() if int(key) == max(map(int, versions))
            }

    def delete_key(self, name: str) -> None:
        """Delete the key `name`: what it encrypts can never be read again, wherever copies of it are."""
        with self._changed() as document:
            document["keys"].pop(name, None)

    def rotate_master(
        self, ask: AskPassphrase | None = None, passphrase: str | None = None, kdf: KdfParameters | None = None
    ) -> None:
        """Wrap all keys with a new master key; the data stays as it is.

        Args:
            passphrase: the new one; without it the keyring has the new key, or `ask` is asked.
        """
        before = self._master
        with self._changed() as document:
            plain = {
                name: {
                    version: self._unwrap(document, name, int(version), value) for version, value in versions.items()
                }
                for name, versions in document["keys"].items()
            }
            master = new_master_key(document["store"], ask, kdf or KdfParameters(), passphrase)
            document["master"] = master.description
            document[CHECK] = _wrap(master.key, document["store"], CHECK, 0, bytes(KEY_BYTES))
            document["keys"] = {
                name: {
                    version: _wrap(master.key, document["store"], name, int(version), value)
                    for version, value in versions.items()
                }
                for name, versions in plain.items()
            }
        self._master = master
        forget_master_key(before.description)

    def _read(self) -> dict[str, Any]:
        document = _read_store(self._path)
        if document["master"] != self._master.description:
            raise UsageError("another process changed the passphrase meanwhile; run the same command again")
        return document

    @contextlib.contextmanager
    def _changed(self) -> Iterator[dict[str, Any]]:
        """The document, held against other processes, and written when the block ends."""
        with _lock(self._path.parent):
            document = self._read()
            yield document
            write_private_json(self._path, document)

    def _wrap(self, document: dict[str, Any], name: str, version: int, key: bytes) -> str:
        return _wrap(self._master.key, document["store"], name, version, key)

    def _unwrap(self, document: dict[str, Any], name: str, version: int, wrapped: str) -> bytes:
        try:
            return _unwrap(self._master.key, document["store"], name, version, wrapped)
        except (InvalidTag, ValueError, TypeError) as error:
            raise DataError(f"the key {name!r} in {self._path} is damaged; put back a copy of that file") from error


def open_keys(
    folder: pathlib.Path | None = None, ask: AskPassphrase | None = None, kdf: KdfParameters | None = None
) -> Keys:
    """The keys in `folder` (this user's state folder), made at the first call.

    The master key of a new store is made from OVERSEER_PASSPHRASE where that is set, else put into the keyring, else made from what
    `ask` gives. Later calls use what the store was made with, and nothing else.

    Args:
        ask: asks a person; None where there is nobody to ask.
        kdf: for a new store that has a passphrase.

    Raises:
        NotAvailableError: there is neither keyring nor passphrase.
        UsageError: the passphrase is wrong or too short.
        DataError: keys.json is damaged.
    """
    path = make_private_folder(folder or state_folder()) / "keys.json"
    with _lock(path.parent):
        if not path.exists():
            store = secrets.token_hex(8)
            master = new_master_key(store, ask, kdf or KdfParameters())
            check = _wrap(master.key, store, CHECK, 0, bytes(KEY_BYTES))
            document: dict[str, Any] = {
                "format": FORMAT,
                "store": store,
                "master": master.description,
                CHECK: check,
                "keys": {},
            }
            write_private_json(path, document)
            return Keys(path, master)
    document = _read_store(path)
    try:
        master = find_master_key(document["master"], ask)
        _unwrap(master.key, document["store"], CHECK, 0, document[CHECK])
    except InvalidTag as error:
        what = (
            "the passphrase is wrong" if document["master"]["kind"] == "passphrase" else "the keyring has another key"
        )
        raise UsageError(f"{what}, or {path} was changed; nothing was opened") from error
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, error) from error
    return Keys(path, master)


def data_key(name: str, folder: pathlib.Path | None = None, ask: AskPassphrase | None = None) -> bytes:
    """The 32 bytes of the key `name`; raises what `open_keys` does."""
    return open_keys(folder, ask).data_key(name)


def _read_store(path: pathlib.Path) -> dict[str, Any]:
    try:
        document = read_json(path)
        if document["format"] != FORMAT or not isinstance(document["keys"], dict):
            raise ValueError("unknown format")
        for name in ("store", "master", CHECK):
            document[name]
        for versions in document["keys"].values():
            max(map(int, versions))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, error) from error
    return document  # type: ignore[no-any-return]


@contextlib.contextmanager
def _lock(folder: pathlib.Path) -> Iterator[None]:
    try:
        with (folder / ".keys.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise UsageError(
            f"the keys in {folder} cannot be kept: {error.strerror}; make space, or mend its rights"
        ) from error


def _wrap(master: bytes, store: str, name: str, version: int, key: bytes) -> str:
    nonce = secrets.token_bytes(NONCE_BYTES)
    return base64.b64encode(nonce + AESGCM(master).encrypt(nonce, key, _about(store, name, version))).decode()


def _unwrap(master: bytes, store: str, name: str, version: int, wrapped: str) -> bytes:
    sealed = base64.b64decode(wrapped, validate=True)
    return AESGCM(master).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _about(store, name, version))


def _about(store: str, name: str, version: int) -> bytes:
    return f"overseer key {FORMAT}\n{store}\n{version}\n{name}".encode()


def _damaged(path: pathlib.Path, error: Exception) -> DataError:
    return DataError(f"{path} is damaged ({error or type(error).__name__}); put back a copy of that file")
