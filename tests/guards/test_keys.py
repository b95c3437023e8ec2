"""Keys: the same each time, never in the clear, and nothing opens without the right passphrase or keyring."""

from __future__ import annotations

import base64
import concurrent.futures
import json
import pathlib
from collections.abc import Callable

import keyring
import keyring.backend
import keyring.backends.fail
import keyring.backends.null
import pytest

from overseer_training.errors import DataError, NotAvailableError, OverseerError, UsageError
from overseer_training.guards import master_key
from overseer_training.guards.keys import data_key, open_keys
from overseer_training.guards.master_key import VARIABLE, KdfParameters

PASSPHRASE = "several quiet words"
LIGHT = KdfParameters(memory_kib=19 * 1024, iterations=2, lanes=1)  # the least that is taken, so that tests are fast


class MemoryKeyring(keyring.backend.KeyringBackend):
    """A keyring of the library's own interface that lasts as long as the test."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


@pytest.fixture(autouse=True)
def no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(keyring, "get_keyring", keyring.backends.fail.Keyring)


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> MemoryKeyring:
    backend = MemoryKeyring()
    monkeypatch.setattr(keyring, "get_keyring", lambda: backend)
    monkeypatch.setattr(keyring, "delete_password", backend.delete_password)
    monkeypatch.setattr(master_key, "TRUSTED_KEYRINGS", (type(backend).__module__.partition(".")[0],))
    return backend


def test_a_key_is_the_same_each_time_and_each_name_has_its_own(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, PASSPHRASE)
    keys = open_keys(tmp_path / "s", kdf=LIGHT)
    one, other = keys.data_key("interactions"), keys.data_key("history")
    assert len(one) == len(other) == 32 and one != other and keys.kind == "passphrase"
    assert data_key("interactions", tmp_path / "s") == one
    assert keys.names() == ["history", "interactions"]


def test_no_key_is_in_the_clear(tmp_path: pathlib.Path, trusted: MemoryKeyring) -> None:
    keys = open_keys(tmp_path / "s")
    plain = [keys.data_key("a"), keys.signing_key("audit").private_bytes_raw(), keys._master.key]
    written = b"".join(path.read_bytes() for path in (tmp_path / "s").iterdir())
    for key in plain:
        assert not any(form in written for form in (key, key.hex().encode(), base64.b64encode(key)))
    assert PASSPHRASE.encode() not in written and repr(keys._master.key) not in repr(keys._master)
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "s").glob("*.json")} == {0}
    assert (tmp_path / "s").stat().st_mode & 0o077 == 0


def test_a_wrong_passphrase_is_one_line_and_opens_nothing(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, PASSPHRASE)
    open_keys(tmp_path / "s", kdf=LIGHT).data_key("a")
    before = (tmp_path / "s/keys.json").read_bytes()
    monkeypatch.setenv(VARIABLE, PASSPHRASE + "!")
    with pytest.raises(UsageError, match="the passphrase is wrong") as caught:
        open_keys(tmp_path / "s")
    assert "\n" not in str(caught.value) and PASSPHRASE not in str(caught.value)
    assert (tmp_path / "s/keys.json").read_bytes() == before


@pytest.mark.parametrize("backend", [keyring.backends.fail.Keyring, keyring.backends.null.Keyring, MemoryKeyring])
def test_without_passphrase_and_trusted_keyring_nothing_is_made(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, backend: Callable[[], keyring.backend.KeyringBackend]
) -> None:
    monkeypatch.setattr(keyring, "get_keyring", backend)
    with pytest.raises(NotAvailableError, match="set OVERSEER_PASSPHRASE"):
        open_keys(tmp_path / "s")
    assert not (tmp_path / "s/keys.json").exists()


def test_a_short_passphrase_or_two_different_ones_are_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UsageError, match="too short"):
        open_keys(tmp_path / "s", ask=lambda prompt: "short", kdf=LIGHT)
    given = iter(["several quiet words", "several quiet wrods"])
    with pytest.raises(UsageError, match="differ"):
        open_keys(tmp_path / "s", ask=lambda prompt: next(given), kdf=LIGHT)
    assert not (tmp_path / "s/keys.json").exists()


def test_the_keyring_is_used_where_there_is_one_and_nothing_else_opens_what_it_locked(
    tmp_path: pathlib.Path, trusted: MemoryKeyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = open_keys(tmp_path / "s")
    key = keys.data_key("a")
    assert keys.kind == "keyring" and len(trusted.kept) == 1
    assert open_keys(tmp_path / "s").data_key("a") == key
    monkeypatch.setenv(VARIABLE, PASSPHRASE)
    monkeypatch.setattr(keyring, "get_keyring", keyring.backends.fail.Keyring)
    with pytest.raises(NotAvailableError, match="keyring"):
        open_keys(tmp_path / "s")
    monkeypatch.setattr(keyring, "get_keyring", lambda: trusted)
    trusted.kept.clear()
    with pytest.raises(NotAvailableError, match="put it back"):
        open_keys(tmp_path / "s")


@pytest.mark.parametrize("what", ["names", "versions", "stores"])
def test_a_wrapped_key_cannot_take_the_place_of_another(
    tmp_path: pathlib.Path, trusted: MemoryKeyring, what: str
) -> None:
    keys = open_keys(tmp_path / "s")
    keys.data_key("a"), keys.data_key("b"), keys.rotate_data_key("a")
    path = tmp_path / "s/keys.json"
    document = json.loads(path.read_text())
    if what == "names":
        document["keys"]["a"]["2"] = document["keys"]["b"]["1"]
    elif what == "versions":
        document["keys"]["a"]["2"] = document["keys"]["a"]["1"]
    else:
        document["store"] = "0" * 16
    path.write_text(json.dumps(document))
    with pytest.raises((DataError, UsageError), match=r"damaged|was changed"):
        open_keys(tmp_path / "s").data_key("a")


def test_no_changed_byte_gives_another_key(tmp_path: pathlib.Path, trusted: MemoryKeyring) -> None:
    path = tmp_path / "s/keys.json"
    key = open_keys(tmp_path / "s").data_key("a")
    content = path.read_bytes()
    for place in range(0, len(content), 3):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        try:
            document = open_keys(tmp_path / "s")
            found = document.data_key("a", 1)
        except OverseerError as error:
            assert "\n" not in str(error)
        else:
            assert found == key, place


@pytest.mark.parametrize(
    ("field", "value"), [("memory_kib", 8), ("iterations", 1), ("memory_kib", 2**40), ("lanes", "4")]
)
def test_a_passphrase_is_never_derived_with_other_than_sound_parameters(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, field: str, value: object
) -> None:
    monkeypatch.setattr(master_key, "_derive", lambda *given: b"k" * 32)  # to be reached only when the guard is missing
    monkeypatch.setenv(VARIABLE, PASSPHRASE)
    open_keys(tmp_path / "s", kdf=LIGHT)
    path = tmp_path / "s/keys.json"
    document = json.loads(path.read_text())
    document["master"][field] = value
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match="out of bounds"):
        open_keys(tmp_path / "s")


def test_a_new_passphrase_opens_the_same_keys_and_the_old_one_none(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, PASSPHRASE)
    keys = open_keys(tmp_path / "s", kdf=LIGHT)
    one = keys.data_key("a")
    keys.rotate_data_key("a")
    keys.rotate_master(passphrase="another set of words", kdf=LIGHT)
    assert keys.data_key("a", 1) == one
    with pytest.raises(UsageError, match="wrong"):
        open_keys(tmp_path / "s")
    monkeypatch.setenv(VARIABLE, "another set of words")
    assert open_keys(tmp_path / "s").data_key("a", 1) == one


def test_a_new_master_key_in_the_keyring_replaces_the_old_one(tmp_path: pathlib.Path, trusted: MemoryKeyring) -> None:
    keys, stale = open_keys(tmp_path / "s"), open_keys(tmp_path / "s")
    one, (before,) = keys.data_key("a"), trusted.kept.values()
    keys.rotate_master()
    assert open_keys(tmp_path / "s").data_key("a") == one
    assert len(trusted.kept) == 1 and before not in trusted.kept.values()
    with pytest.raises(UsageError, match="another process changed"):
        stale.rotate_data_key("a")


def test_versions_of_a_key_stay_until_they_are_dropped(tmp_path: pathlib.Path, trusted: MemoryKeyring) -> None:
    keys = open_keys(tmp_path / "s")
    old = keys.data_key("a")
    assert keys.rotate_data_key("a") == keys.newest_version("a") == 2
    assert keys.data_key("a") != old and keys.data_key("a", 1) == old
    keys.drop_old_versions("a")
    with pytest.raises(UsageError, match="no version 1"):
        keys.data_key("a", 1)
    keys.delete_key("a")
    with pytest.raises(UsageError, match="no version 2"):
        keys.data_key("a", 2)


def test_processes_that_make_a_key_at_once_get_the_same(tmp_path: pathlib.Path, trusted: MemoryKeyring) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:  # each opens the store, and its lock, for itself
        keys = list(pool.map(lambda number: data_key("a", tmp_path / "s"), range(16)))
    assert len(set(keys)) == 1


def test_a_folder_that_takes_no_files_is_one_line(tmp_path: pathlib.Path, trusted: MemoryKeyring) -> None:
    (tmp_path / "s/.keys.lock").mkdir(parents=True)
    (tmp_path / "s").chmod(0o700)
    with pytest.raises(UsageError, match="cannot be kept"):
        open_keys(tmp_path / "s")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be made"):
        open_keys(tmp_path / "file/s")


def test_a_folder_that_others_may_write_is_refused(tmp_path: pathlib.Path, trusted: MemoryKeyring) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s").chmod(0o777)
    with pytest.raises(UsageError, match="chmod go-w"):
        open_keys(tmp_path / "s")
