"""Kaggle's real client against a Kaggle-shaped server on this machine: good answers, and everything that goes wrong."""

from __future__ import annotations

import base64
import collections
import errno
import hashlib
import logging
import os
import pathlib
import random
import resource
import signal
import socket
from collections.abc import Iterator

import pytest
from loopback.kaggle import Kaggle, zipped

from overseer_training.data.sources.kaggle import client
from overseer_training.data.sources.kaggle.client import download
from overseer_training.errors import DataError, NotAvailableError, OverseerError, UsageError

from .test_kaggle_server import PAIRS, SLUG, running_kaggle

TOKEN = "KGAT_0123456789abcdef"
LARGE = random.Random(0).randbytes(400_000)  # several chunks
CHUNK = client.CHUNK_BYTES


@pytest.fixture
def kaggle(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kaggle]:
    with running_kaggle(tmp_path, monkeypatch) as server:
        yield server


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "cache" / "kaggle" / SLUG


def names(folder: pathlib.Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


def test_an_archive_comes_whole_with_its_version_licence_and_checksum(kaggle: Kaggle, folder: pathlib.Path) -> None:
    seen: list[tuple[int, int | None]] = []
    archive = download(SLUG, folder, lambda done, total: seen.append((done, total)))
    content = kaggle.archives[SLUG][1]
    assert archive.path.read_bytes() == content
    assert (archive.version, archive.licence, archive.sha256) == (3, "CC0-1.0", hashlib.sha256(content).hexdigest())
    assert seen[0] == (0, len(content)) and seen[-1] == (len(content), len(content))
    assert names(folder) == {"archive", "archive.json"}


def test_the_same_version_is_not_downloaded_twice_and_a_new_one_is(kaggle: Kaggle, folder: pathlib.Path) -> None:
    download(SLUG, folder)
    download(SLUG, folder)
    assert kaggle.count("/storage/") == 1
    kaggle.archives[SLUG] = (4, zipped({"new.csv": PAIRS}))
    assert download(SLUG, folder).version == 4
    assert kaggle.count("/storage/") == 2


def test_an_archive_that_was_altered_is_downloaded_again(kaggle: Kaggle, folder: pathlib.Path) -> None:
    download(SLUG, folder).path.write_bytes(b"altered")
    assert download(SLUG, folder).path.read_bytes() == kaggle.archives[SLUG][1]


@pytest.mark.parametrize("header", [{"Accept-Ranges": "bytes"}, {"Accept-Ranges": "bytes", "ETag": '"1"'}])
def test_a_cut_connection_goes_on_where_it_stopped(
    kaggle: Kaggle, folder: pathlib.Path, header: dict[str, str]
) -> None:
    kaggle.archives[SLUG] = (3, LARGE)
    kaggle.storage, kaggle.cuts = header, {0: 100_000, CHUNK: 150_000}
    assert download(SLUG, folder).path.read_bytes() == kaggle.archives[SLUG][1]
    assert [headers["Range"] for _, headers in kaggle.requests if "Range" in headers] == [
        f"bytes={CHUNK}-",
        f"bytes={3 * CHUNK}-",
    ]


def test_a_run_goes_on_where_the_one_before_was_cut_off(kaggle: Kaggle, folder: pathlib.Path) -> None:
    kaggle.archives[SLUG] = (3, LARGE)
    kaggle.cuts = {0: 100_000, CHUNK: 0}
    with pytest.raises(
        DataError, match="broke 5 times during someone/linux-commands; run again to go on after 65,536 bytes"
    ):
        download(SLUG, folder)
    assert names(folder) == {"archive.part", "archive.part.json"}
    kaggle.cuts = {}
    assert download(SLUG, folder).path.read_bytes() == kaggle.archives[SLUG][1]
    assert kaggle.requests[-1][1]["Range"] == f"bytes={CHUNK}-"


@pytest.mark.parametrize("change", ["version", "length", "checksum", "no ranges", "ranges ignored"])
def test_a_part_of_something_else_is_never_completed(kaggle: Kaggle, folder: pathlib.Path, change: str) -> None:
    kaggle.archives[SLUG] = (3, LARGE)
    kaggle.cuts = {0: 100_000, CHUNK: 0}
    with pytest.raises(DataError):
        download(SLUG, folder)
    kaggle.cuts = {}
    version, content = kaggle.archives[SLUG]
    fresh = bytes([content[0] ^ 1]) + content[1:]
    if change == "no ranges":
        kaggle.storage = {}
    elif change == "ranges ignored":
        kaggle.ignores_ranges = True
    elif change == "checksum":
        kaggle.storage["x-goog-hash"] = md5_header(fresh)
    else:
        fresh += b"x" * (change == "length")
        version += change == "version"
    kaggle.archives[SLUG] = (version, fresh)
    assert download(SLUG, folder).path.read_bytes() == fresh


def md5_header(content: bytes) -> str:
    return f"crc32c=n03x6A==,md5={base64.b64encode(hashlib.md5(content).digest()).decode()}"


def test_a_wrong_checksum_is_not_kept(kaggle: Kaggle, folder: pathlib.Path) -> None:
    kaggle.storage["x-goog-hash"] = md5_header(b"another")
    with pytest.raises(DataError, match="does not have the checksum that Kaggle states"):
        download(SLUG, folder)
    assert names(folder) == set()


@pytest.mark.parametrize(
    ("statuses", "signed_in", "error", "message"),
    [
        ([401], False, NotAvailableError, "wants credentials .* there are none; make a token"),
        ([401], True, NotAvailableError, r"refuses the credentials \(401\); make a token"),
        ([403], False, DataError, "to accounts only .*make a token"),
        ([403], True, DataError, "accept its terms on its page, or take it off the list"),
        ([404], True, DataError, "has no data set someone/linux-commands, or it is private"),
        ([429] * 9, True, NotAvailableError, "too many requests .*wait an hour, or run with --use-existing-data"),
        ([500] * 9, True, NotAvailableError, r"error of its own \(500\).*try again later"),
        ([503] * 9, False, NotAvailableError, r"error of its own \(503\)"),
    ],
)
def test_every_refusal_says_in_one_line_what_to_do(
    kaggle: Kaggle, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch,
    statuses: list[int], signed_in: bool, error: type[OverseerError], message: str,
) -> None:  # fmt: skip
    if signed_in:
        monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    kaggle.refusals = list(statuses)
    with pytest.raises(error, match=message) as raised:
        download(SLUG, folder)
    assert "\n" not in str(raised.value) and TOKEN not in str(raised.value)
    assert names(folder) == set()
    assert len(kaggle.requests) == (1 if len(statuses) == 1 else 1 + client.RETRIES)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_refusal_that_passes_is_waited_for(kaggle: Kaggle, folder: pathlib.Path, status: int) -> None:
    kaggle.refusals = [status, status]
    assert download(SLUG, folder).bytes == len(kaggle.archives[SLUG][1])


@pytest.mark.parametrize("document", [[], 7, {"currentVersionNumber": "x"}, {"code": "x"}, "text"])
def test_an_answer_that_makes_no_sense_says_so(kaggle: Kaggle, folder: pathlib.Path, document: object) -> None:
    kaggle.nonsense = document
    with pytest.raises(
        NotAvailableError, match=r"answer about someone/linux-commands cannot be understood; try again later"
    ):
        download(SLUG, folder)


def test_no_network_says_so(kaggle: Kaggle, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kagglesdk import kaggle_env

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
        monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.TEST, endpoint)
        with pytest.raises(NotAvailableError, match=r"cannot be reached; check the network .* --use-existing-data"):
            download(SLUG, folder)


def test_a_server_that_never_answers_is_given_up(
    kaggle: Kaggle, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kagglesdk import kaggle_env

    monkeypatch.setattr(client, "TIMEOUT_SECONDS", (0.2, 0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.TEST, endpoint)
        with pytest.raises(NotAvailableError, match="cannot be reached"):
            download(SLUG, folder)


def test_a_disk_that_is_too_small_is_seen_before_the_download(
    kaggle: Kaggle, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(client.shutil, "disk_usage", lambda path: usage(10, 0, 10))  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"has [\d,]+ bytes and 10 are free in .*; make room and run again"):
        download(SLUG, folder)
    assert names(folder) == set()


def test_a_write_that_fails_leaves_nothing(kaggle: Kaggle, folder: pathlib.Path) -> None:
    """The system refuses to let files of this process grow, as it refuses on a full disk."""
    kaggle.archives[SLUG] = (3, random.Random(0).randbytes(100_000))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(DataError, match=f"cannot be written: {os.strerror(errno.EFBIG)}; make room and run again"):
            download(SLUG, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert names(folder) == set()


def test_the_credentials_go_to_kaggle_and_not_to_its_storage(
    kaggle: Kaggle, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    kaggle.archives[SLUG], kaggle.cuts = (3, LARGE), {0: 100_000}
    download(SLUG, folder)
    for path, headers in kaggle.requests:
        assert headers.get("Authorization") == (None if "/storage/" in path else f"Bearer {TOKEN}")
    assert kaggle.count("/storage/") == 3


@pytest.mark.parametrize("token", [TOKEN + "\n", TOKEN + "é", "x" * 300 + TOKEN, "two words " + TOKEN])
def test_odd_credentials_are_never_shown(
    kaggle: Kaggle, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, token: str
) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", token)
    with pytest.raises(UsageError, match="make a token") as raised:
        download(SLUG, folder)
    logging.getLogger("overseer_training").error("stopped", exc_info=raised.value)
    assert TOKEN not in str(raised.value) + caplog.text
    assert kaggle.requests == []


def test_a_broken_credentials_file_says_what_to_do(
    kaggle: Kaggle, folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "kaggle.json").write_text('{"username": "me", "key": "sec')
    with pytest.raises(UsageError, match="credentials of this user cannot be read; make a token"):
        download(SLUG, folder)


def test_nothing_is_printed(kaggle: Kaggle, folder: pathlib.Path, capfd: pytest.CaptureFixture[str]) -> None:
    download(SLUG, folder)
    assert capfd.readouterr() == ("", "")
