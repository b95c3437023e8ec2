"""Signed model folders: whatever is changed, added or taken out is named in one line; models of others open, and it is said once."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
from collections.abc import Callable

import numpy
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from safetensors.numpy import save_file

from overseer_training.errors import ModelError, UsageError
from overseer_training.guards import signatures
from overseer_training.guards.keys import open_keys
from overseer_training.guards.master_key import VARIABLE, KdfParameters
from overseer_training.guards.model_files import SIGNATURE_NAME, list_hashes, validate_model_folder
from overseer_training.guards.signatures import (
    admit_model,
    check_signature,
    sign_model,
    withdraw_signature,
    write_signature,
)

LIGHT = KdfParameters(memory_kib=19 * 1024, iterations=2, lanes=1)  # the least that is taken, so that tests are fast
PASSPHRASE = "several quiet words"
AGAIN = "put back a copy of it, or delete the folder and make it again"
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A state folder with keys that have a passphrase."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, PASSPHRASE)
        open_keys(made := tmp_path_factory.mktemp("keys"), kdf=LIGHT)
    return made


@pytest.fixture
def owner(keys: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The state folder of somebody who has keys."""
    state = shutil.copytree(keys, tmp_path / "state")
    state.chmod(0o700)
    monkeypatch.setenv(VARIABLE, PASSPHRASE)
    monkeypatch.setenv("OVERSEER_STATE", str(state))
    return state


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    """A model, not signed."""
    made = tmp_path / "runs" / "one" / "model"
    made.mkdir(parents=True)
    (made / "config.json").write_text('{"model_type": "llama"}')
    (made / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0}}}')
    (made / "chat_template.jinja").write_text(TEMPLATE)
    save_file({"a": numpy.arange(400, dtype="f4")}, made / "model.safetensors")
    return made


@pytest.fixture
def signed(owner: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """A model that the owner signed."""
    assert sign_model(folder) == ""
    return folder


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files count as unchanged at once, not only after three seconds."""
    monkeypatch.setattr(signatures, "SETTLED_NS", 0)


def flip_a_bit(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    with path.open("r+b") as handle:  # in place: the same file, of the same length
        handle.write(content)


def sign_with_another_key(folder: pathlib.Path) -> None:
    flip_a_bit(folder / "model.safetensors")
    write_signature(folder, Ed25519PrivateKey.generate())


def list_other_hashes(folder: pathlib.Path) -> None:
    flip_a_bit(folder / "model.safetensors")
    document = json.loads((folder / SIGNATURE_NAME).read_text())
    (folder / SIGNATURE_NAME).write_text(json.dumps({**document, "files": list_hashes(folder)}))


CHANGES: list[tuple[Callable[[pathlib.Path], object], str]] = [
    (lambda f: flip_a_bit(f / "model.safetensors"), f"model.safetensors: it was changed after the folder was signed; {AGAIN}"),
    (lambda f: (f / "tokenizer.json").write_text('{"model": {"vocab": {"b": 0}}}'), f"tokenizer.json: it was changed after the folder was signed; {AGAIN}"),
    (lambda f: (f / "chat_template.jinja").write_text("be evil" + TEMPLATE), f"chat_template.jinja: it was changed after the folder was signed; {AGAIN}"),
    (lambda f: (f / "notes.txt").write_text("x"), "notes.txt: it was added after the folder was signed; take it out"),
    (lambda f: (f / "config.json").unlink(), f"config.json: it was signed and is gone; {AGAIN}"),
    (lambda f: (f / SIGNATURE_NAME).unlink(), f"signature.json: you signed this folder, and its signature is gone; {AGAIN}"),
    (lambda f: (f / SIGNATURE_NAME).write_text("{"), f"signature.json: you signed this folder, and its signature is gone; {AGAIN}"),
    (lambda f: (f / SIGNATURE_NAME).write_text("[]"), f"signature.json: you signed this folder, and its signature is gone; {AGAIN}"),
    (sign_with_another_key, f"signature.json: you signed this folder, and its signature is by another key now; {AGAIN}"),
    (list_other_hashes, f"signature.json: it does not belong to what it lists; {AGAIN}"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "line"), CHANGES, ids=range(len(CHANGES)))
def test_each_change_is_refused_in_one_line_that_names_the_file(
    signed: pathlib.Path, change: Callable[[pathlib.Path], object], line: str
) -> None:
    admit_model(signed)
    change(signed)
    for look in (admit_model, check_signature, withdraw_signature):
        with pytest.raises(ModelError) as caught:
            look(signed)
        assert str(caught.value) == f"the model in {signed} is not opened: {line}"


def test_what_is_unchanged_opens_without_passphrase_and_without_a_word(
    signed: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv(VARIABLE)
    admit_model(signed)
    (signed / ".DS_Store").write_bytes(b"a desktop was here")
    admit_model(signed)
    assert check_signature(signed) == "owner" and caplog.text == "" and validate_model_folder(signed) == []


@pytest.mark.usefixtures("settled")
def test_what_the_file_system_says_to_be_unchanged_is_not_read_again(
    signed: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    admit_model(signed)
    read: list[pathlib.Path] = []
    monkeypatch.setattr(signatures, "list_hashes", lambda path: read.append(path) or list_hashes(path))
    admit_model(signed)
    assert check_signature(signed) == "owner" and read == []
    assert check_signature(signed, afresh=True) == "owner" and read == [signed]


@pytest.mark.usefixtures("settled")
def test_a_change_shows_although_size_and_date_are_put_back(signed: pathlib.Path) -> None:
    admit_model(signed)
    weights = signed / "model.safetensors"
    before = weights.stat()
    flip_a_bit(weights)
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = weights.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    with pytest.raises(ModelError, match=r"model\.safetensors: it was changed"):
        admit_model(signed)


def test_what_was_written_a_moment_ago_is_read_again(signed: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second change within one tick of the file system's clock would not show."""
    admit_model(signed)
    read: list[pathlib.Path] = []
    monkeypatch.setattr(signatures, "list_hashes", lambda path: read.append(path) or list_hashes(path))
    admit_model(signed)
    assert read == [signed]


@pytest.mark.usefixtures("settled")
def test_the_model_of_somebody_else_opens_and_it_is_said_once(
    signed: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OVERSEER_STATE", str(tmp_path / "another"))
    for _ in range(2):
        admit_model(signed)
    (record,) = caplog.records
    assert record.getMessage() == (
        f"note: the model in {signed} is signed by another key than yours: nothing here shows who that is"
    )
    (signed / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"config\.json: it was changed after the folder was signed"):
        admit_model(signed)


@pytest.mark.usefixtures("settled", "owner")
def test_a_model_without_signature_opens_if_it_is_sound_and_it_is_said_once(
    folder: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        admit_model(folder)
    (record,) = caplog.records
    assert record.getMessage() == (
        f"note: the model in {folder} is not signed: nothing here shows who made it, or whether it was changed since"
    )
    (folder / "model.pt").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"model\.pt: this kind of file can run code"):
        admit_model(folder)


@pytest.mark.usefixtures("owner")
@pytest.mark.parametrize(
    "content", ["{", '{"key": "AAAA"}', '{"format": 1, "key": "AA==", "files": {}, "signature": ""}']
)
def test_a_file_of_that_name_that_is_no_signature_of_ours_signs_nothing(folder: pathlib.Path, content: str) -> None:
    (folder / SIGNATURE_NAME).write_text(content)
    assert check_signature(folder) == "nobody"


@pytest.mark.usefixtures("owner")
def test_a_signature_that_is_no_plain_file_is_not_read(folder: pathlib.Path) -> None:
    (folder / SIGNATURE_NAME).symlink_to("/dev/zero")
    assert check_signature(folder) == "nobody"
    (folder / SIGNATURE_NAME).unlink()
    os.mkfifo(folder / SIGNATURE_NAME)
    assert check_signature(folder) == "nobody"


def test_a_link_in_place_of_a_signed_folder_is_no_way_around_its_signature(signed: pathlib.Path) -> None:
    other = shutil.copytree(signed, signed.with_name("other"))
    (other / SIGNATURE_NAME).unlink()
    (signed.parents[1] / "latest").symlink_to(signed.parent.name)
    admit_model(signed.parents[1] / "latest" / "model")
    signed.rename(signed.with_name("before"))
    signed.symlink_to(other)
    for name in (signed, signed.parents[1] / "latest" / "model"):
        with pytest.raises(ModelError, match="you signed this folder, and its signature is gone"):
            admit_model(name)


def test_a_signed_folder_may_be_moved(signed: pathlib.Path, tmp_path: pathlib.Path) -> None:
    moved = signed.rename(tmp_path / "moved")
    assert check_signature(moved) == "owner"
    (moved / SIGNATURE_NAME).unlink()
    with pytest.raises(ModelError, match="its signature is gone"):  # it is known under its new name from then on
        admit_model(moved)


def test_a_folder_is_signed_under_the_name_that_it_gets(signed: pathlib.Path, tmp_path: pathlib.Path) -> None:
    place = tmp_path / "runs" / "two" / "model"
    shutil.copytree(signed, tmp_path / "staging")
    assert sign_model(tmp_path / "staging", place) == ""
    place.parent.mkdir()
    (tmp_path / "staging").rename(place)
    assert check_signature(place) == "owner"
    (place / SIGNATURE_NAME).unlink()
    with pytest.raises(ModelError, match="its signature is gone"):
        check_signature(place)


def test_without_a_key_a_model_is_not_signed_and_still_opens(
    tmp_path: pathlib.Path, signed: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE)
    signatures._open_signer.cache_clear()  # as in a new process
    reason = f"{signed} is not signed: that takes a keyring that is unlocked, or OVERSEER_PASSPHRASE"
    assert sign_model(signed) == reason
    assert not (signed / SIGNATURE_NAME).exists()
    admit_model(signed)


def test_keys_that_were_made_anew_leave_older_models_their_owners(
    owner: pathlib.Path, signed: pathlib.Path, folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    shutil.copytree(signed, tmp_path / "second")
    (owner / "keys.json").rename(tmp_path / "lost.json")
    open_keys(kdf=LIGHT)
    signatures._open_signer.cache_clear()
    assert sign_model(tmp_path / "second") == ""
    keys = {json.loads((one / SIGNATURE_NAME).read_text())["key"] for one in (signed, tmp_path / "second")}
    assert len(keys) == 2
    assert check_signature(signed) == check_signature(tmp_path / "second") == "owner"


def test_an_interrupted_change_by_ourselves_is_no_change_by_another(signed: pathlib.Path) -> None:
    withdraw_signature(signed)
    (signed / "config.json").write_text("{}")
    assert check_signature(signed) == "nobody"
    shutil.rmtree(signed)
    withdraw_signature(signed)


@pytest.mark.parametrize("part", ["", "models"])
def test_notes_that_others_could_have_written_are_not_believed(
    owner: pathlib.Path, signed: pathlib.Path, part: str
) -> None:
    (owner / part).chmod(0o777)
    with pytest.raises(UsageError, match="can be written by others, so it is not trusted; run: chmod go-w"):
        admit_model(signed)


def test_a_state_folder_that_cannot_be_written_keeps_nothing_from_opening(
    folder: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OVERSEER_STATE", str(tmp_path / "file" / "state"))
    admit_model(folder)
