"""Whose a model folder is, and whether it is still what was signed; every door through which a model is used asks here.

    sign_model(folder)         an Ed25519 signature over the SHA-256 of every file, in signature.json
    check_signature(folder)    -> whose it is; ModelError where the folder is not what was signed
    admit_model(folder)        the door: `check_signature`, and what this owner did not sign has to be sound too

The private key is `signing:models` of keys.py. To verify takes no key and no passphrase: the state folder has, below models/, this owner's
public keys and a note on each folder that was signed or let in. By its note a folder that was signed is known when it comes without its
signature, and one whose files the file system says to be unchanged is not read again. README.md says what a signature proves.

Signatures are our own few lines rather than the package model-signing, which speaks the OpenSSF format: its 1.1.1 adds 16 packages, most of
them for signing through a web service, and on a fresh install it did not import (it needs pyOpenSSL and does not say so).

Not covered: a folder that is changed between this check and loading; the base model below an adapter, which is in another folder.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import pathlib
import stat
import time
from collections.abc import Mapping
from typing import Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from overseer_training.errors import DataError, ModelError, NotAvailableError, UsageError
from overseer_training.files import write_json
from overseer_training.guards.folders import (
    find_foreign_writers,
    make_private_folder,
    read_json,
    state_folder,
    write_private_json,
)
from overseer_training.guards.keys import open_keys
from overseer_training.guards.model_files import (
    SIGNATURE_NAME,
    Finding,
    list_files,
    list_hashes,
    refuse_model,
    require_sound_model,
)

Signer = Literal["owner", "other", "nobody"]
PUBLIC_KEYS_NAME = "public_keys.json"
# A file that is written twice within one tick of its file system's clock may look unchanged; FAT has the slowest, of 2 s.
SETTLED_NS = 3 * 10**9
LARGEST_BYTES = 2**20  # of signature.json; chosen: room for 8,000 files
AGAIN = "put back a copy of it, or delete the folder and make it again"
logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Signature:
    """A signature that belongs to the key in it.

    Attributes:
        key: the public key, 32 bytes.
        files: SHA-256 by name.
    """

    key: bytes
    files: Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Note:
    """What is remembered of a folder.

    Attributes:
        is_own: this owner signed it: it does not open without their signature.
        state: `_state_of` its files when they were let in; empty where they are to be read again.
    """

    is_own: bool = False
    state: str = ""


def sign_model(folder: pathlib.Path, place: pathlib.Path | None = None) -> str:
    """Sign all files of `folder` as this owner, in place of an earlier signature; gives why not, empty where it is signed.

    Args:
        place: where the folder is going to be, for one that gets its name when it is complete.
    """
    place = place or folder
    try:
        signer = _open_signer(state_folder())
    except NotAvailableError:
        (folder / SIGNATURE_NAME).unlink(missing_ok=True)
        _note_path(place).unlink(missing_ok=True)
        return f"{place} is not signed: that takes a keyring that is unlocked, or OVERSEER_PASSPHRASE"
    write_signature(folder, signer)
    known, key = _own_keys(), signer.public_key().public_bytes_raw()
    if key not in known:
        _write(_notes_folder() / PUBLIC_KEYS_NAME, [base64.b64encode(one).decode() for one in (*known, key)])
    _write_note(place, Note(is_own=True))
    return ""


def check_signature(folder: pathlib.Path, afresh: bool = False) -> Signer:
    """Whose signature `folder` has. Of files that are not signed nothing is said.

    Args:
        afresh: read every file, also where the file system says that none was changed.

    Raises:
        ModelError: a file was changed, added or taken out since it was signed; or this owner signed the folder, and it has no
            signature of theirs any more.
        UsageError: others may write to the state folder.
    """
    note, signature = _read_note(folder), read_signature(folder)
    is_own = signature is not None and signature.key in _own_keys()
    if note.is_own and not is_own:
        what = "its signature is gone" if signature is None else "its signature is by another key now"
        raise refuse_model(folder, [Finding(SIGNATURE_NAME, f"you signed this folder, and {what}; {AGAIN}")])
    if signature is None:
        return "nobody"
    state = _state_of(folder)
    if is_own and state and note.state == state and not afresh:
        return "owner"
    differences = find_differences(folder, signature)
    if differences:
        raise refuse_model(folder, differences)
    if not is_own:
        return "other"
    _remember(folder, Note(is_own=True, state=state))
    return "owner"


def admit_model(folder: pathlib.Path) -> None:
    """Let a model in that is to be used; of one that this owner did not sign, it is said once in the log.

    Raises:
        ModelError: as `check_signature`; or the folder is not signed by this owner, and there is something in it that is not opened.
        UsageError: others may write to the state folder.
    """
    note, state = _read_note(folder), _state_of(folder)
    if state and note.state == state:
        return
    signer = check_signature(folder)
    if signer == "owner":
        return
    require_sound_model(folder, with_values=False)
    said = "signed by another key than yours" if signer == "other" else "not signed"
    unknown = "who that is" if signer == "other" else "who made it, or whether it was changed since"
    logger.warning("note: the model in %s is %s: nothing here shows %s", folder, said, unknown)
    _remember(folder, Note(state=state))


def withdraw_signature(folder: pathlib.Path) -> None:
    """Before files of `folder` are replaced: an interrupted change must not look like one by somebody else.

    Raises:
        ModelError: as `check_signature`; what somebody else changed is not to be signed with what is new.
    """
    if folder.is_dir():
        check_signature(folder)
    _note_path(folder).unlink(missing_ok=True)
    (folder / SIGNATURE_NAME).unlink(missing_ok=True)


def write_signature(folder: pathlib.Path, signer: Ed25519PrivateKey) -> None:
    """Write signature.json over all files of `folder`.

    Raises:
        ModelError: something in it is no plain file, or leads elsewhere.
    """
    files = list_hashes(folder)
    document = {
        "format": 1,
        "key": base64.b64encode(signer.public_key().public_bytes_raw()).decode(),
        "files": files,
        "signature": base64.b64encode(signer.sign(_signed_bytes(files))).decode(),
    }
    write_json(folder / SIGNATURE_NAME, document)


def read_signature(folder: pathlib.Path) -> Signature | None:
    """The signature in `folder`, checked against the key in it; None where there is none of this form.

    Raises:
        ModelError: it was not made with that key.
    """
    path = folder / SIGNATURE_NAME
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_BYTES:
            return None
        document = read_json(path)
        signature = Signature(base64.b64decode(document["key"], validate=True), dict(document["files"]))
        signed = base64.b64decode(document["signature"], validate=True)
        Ed25519PublicKey.from_public_bytes(signature.key).verify(signed, _signed_bytes(signature.files))
    except InvalidSignature as error:
        problem = f"it does not belong to what it lists; {AGAIN}"
        raise refuse_model(folder, [Finding(SIGNATURE_NAME, problem)]) from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return signature


def find_differences(folder: pathlib.Path, signature: Signature) -> list[Finding]:
    """Where the files of `folder` are not those that were signed."""
    try:
        found = list_hashes(folder)
    except ModelError as error:
        return [Finding(folder.name, str(error))]
    signed = signature.files
    changed = sorted(name for name in signed.keys() & found.keys() if signed[name] != found[name])
    return [
        *(Finding(name, f"it was changed after the folder was signed; {AGAIN}") for name in changed),
        *(Finding(name, f"it was signed and is gone; {AGAIN}") for name in sorted(signed.keys() - found.keys())),
        *(
            Finding(name, "it was added after the folder was signed; take it out")
            for name in sorted(found.keys() - signed.keys())
        ),
    ]


@functools.cache
def _open_signer(state: pathlib.Path) -> Ed25519PrivateKey:
    """Once in a process, so that what was signed is signed again also where the keyring was locked meanwhile."""
    return open_keys(state).signing_key("models")


def _signed_bytes(files: Mapping[str, str]) -> bytes:
    return b"overseer model folder 1\n" + json.dumps(dict(files), sort_keys=True).encode()


def _state_of(folder: pathlib.Path) -> str:
    """What the file system says of every file in `folder`, as one hash; empty where a change might not show in it."""
    known, newest = [], 0
    try:
        for file in list_files(folder):
            found = file.stat()
            times = (found.st_mtime_ns, found.st_ctime_ns)
            known.append((file.relative_to(folder).as_posix(), found.st_ino, found.st_size, *times))
            newest = max(newest, *times)
    except OSError:
        return ""
    is_settled = newest < time.time_ns() - SETTLED_NS
    return hashlib.sha256(json.dumps(sorted(known)).encode()).hexdigest() if known and is_settled else ""


def _notes_folder() -> pathlib.Path:
    """Where notes and public keys are; it may not exist."""
    folder = state_folder() / "models"
    for one in (folder.parent, folder):
        problem = find_foreign_writers(one) if one.exists() else None
        if problem:
            raise UsageError(problem)
    return folder


def _own_keys() -> tuple[bytes, ...]:
    """Public keys that this owner ever signed with."""
    path = _notes_folder() / PUBLIC_KEYS_NAME
    try:
        return tuple(base64.b64decode(key, validate=True) for key in read_json(path))
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({type(error).__name__}); put back a copy of it") from error


def _place_of(folder: pathlib.Path) -> pathlib.Path:
    """One name for `folder`, whatever links lead to it; a link that is put in its place does not lead away from its note."""
    return folder.resolve() if folder.name in ("", "..") else folder.parent.resolve() / folder.name


def _note_path(folder: pathlib.Path) -> pathlib.Path:
    return _notes_folder() / f"{hashlib.sha256(bytes(_place_of(folder))).hexdigest()[:32]}.json"


def _read_note(folder: pathlib.Path) -> Note:
    path = _note_path(folder)
    try:
        document = read_json(path)
        return Note(bool(document["is_own"]), str(document["state"]))
    except (FileNotFoundError, NotADirectoryError):
        return Note()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({type(error).__name__}); put back a copy of it") from error


def _write_note(folder: pathlib.Path, note: Note) -> None:
    _write(_note_path(folder), {"folder": str(_place_of(folder)), **dataclasses.asdict(note)})


def _remember(folder: pathlib.Path, note: Note) -> None:
    """Where nothing can be written, the next look takes as long as this one."""
    with contextlib.suppress(OSError, UsageError):
        _write_note(folder, note)


def _write(path: pathlib.Path, document: object) -> None:
    make_private_folder(path.parent.parent)
    make_private_folder(path.parent)
    write_private_json(path, document)
