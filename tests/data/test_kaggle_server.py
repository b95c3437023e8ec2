"""Kaggle's real client before a server on a free port of this machine, which it takes for Kaggle."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import urllib.request
from collections.abc import Iterator

import pytest
from loopback import running
from loopback.kaggle import Kaggle, zipped

from overseer_training.data.sources.kaggle import client

SLUG = "someone/linux-commands"
PAIRS = (
    "Command,Description,Category\nls -l,List all files with details,files\n,nothing to see in here,files\n"
    + "".join(f"head -n {n} notes.txt,Show the first {n} lines of notes.txt,text\n" for n in range(2, 40))
)
SERIES = "timestamp,value\n" + "".join(f"2024-01-01 {n // 12:02}:{n % 12 * 5:02}:00,{n / 10}\n" for n in range(60))


@contextlib.contextmanager
def running_kaggle(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kaggle]:
    """A server that Kaggle's client takes for Kaggle, a home without credentials, and an empty cache."""
    from kagglesdk import kaggle_env

    for name in [name for name in os.environ if name.startswith("KAGGLE") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "home"))
    monkeypatch.setenv("OVERSEER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "TEST")
    monkeypatch.setattr(client, "BACKOFF_SECONDS", 0.01)
    with running(Kaggle({SLUG: (3, zipped({"commands.csv": PAIRS}))})) as server:
        endpoint = f"http://localhost:{server.server_port}"
        monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.TEST, endpoint)
        yield server


def test_the_server_leads_a_download_to_another_host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_kaggle(tmp_path, monkeypatch) as kaggle:
        owner, name = SLUG.split("/")
        body = json.dumps({"ownerSlug": owner, "datasetSlug": name}).encode()
        address = f"http://localhost:{kaggle.server_port}/api/v1/datasets.DatasetApiService/DownloadDataset"
        with urllib.request.urlopen(urllib.request.Request(address, body)) as response:
            assert (response.url.split("/")[2], response.read()) == (
                f"127.0.0.1:{kaggle.server_port}",
                kaggle.archives[SLUG][1],
            )
