"""Downloads the archive of a data set with Kaggle's own client, once, and goes on where a cut connection stopped.

Takes OWNER/NAME and a folder; gives `archive` in that folder and, last, `archive.json`. Unpacks nothing. Kaggle's client finds the
credentials, signs in and asks; the bytes are read here, because its own download prints, trusts whatever answers a request to
resume, and unpacks by itself. No message and no traceback holds a credential.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import json
import pathlib
import re
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

from overseer_training.errors import DataError, NotAvailableError, OverseerError, UsageError
from overseer_training.files import sha256, sync_path, write_json

Progress = Callable[[int, int | None], None]  # (bytes on disk, bytes in all or None)
ARCHIVE, RECORD, PART, PART_RECORD = "archive", "archive.json", "archive.part", "archive.part.json"
TIMEOUT_SECONDS = (5.0, 30.0)  # to connect, and between two reads; Kaggle's client sets none
RETRIED_STATUS = (429, 500, 502, 503, 504)
RETRIES = 4
BACKOFF_SECONDS = 1.0  # doubled with each retry; chosen: 15 seconds in all
LONGEST_WAIT_SECONDS = 30  # even where the server asks for more
CUTS = 5  # connections that may break during one download without a byte won; chosen
CHUNK_BYTES = 1 << 16  # a connection that breaks loses the chunk under way
VISIBLE = re.compile(r"[!-~]+")  # http.client names a header in full, with the token, when it refuses one
HOW_TO_SIGN_IN = (
    "make a token in the settings of your Kaggle account (API) and put it in ~/.kaggle/access_token or KAGGLE_API_TOKEN"
)
WITHOUT = "or run with --use-existing-data"


@dataclasses.dataclass(frozen=True)
class Archive:
    """A downloaded archive, and what Kaggle says of it."""

    slug: str
    version: int
    licence: str
    bytes: int
    sha256: str
    path: pathlib.Path


def download(slug: str, folder: pathlib.Path, progress: Progress = lambda done, total: None) -> Archive:
    """The newest version of `slug` in `folder`; nothing is fetched when it is there already.

    Raises:
        NotAvailableError: no network, no valid credentials, or Kaggle answers nobody now.
        DataError: this data set cannot be had, the connection broke again and again, or the disk is full.
        UsageError: the credentials cannot be read.
    """
    import requests

    try:
        with _connect() as client:
            with _explained(slug, client):
                dataset = client.datasets.dataset_api_client.get_dataset(_request("ApiGetDatasetRequest", slug))
            version, licence = dataset.current_version_number, dataset.license_name or "not stated"
            if type(version) is not int or version < 1 or not isinstance(licence, str):
                raise _not_understood(slug)
            present = find_archive(slug, folder)
            if present is not None and present.version == version:
                return dataclasses.replace(present, licence=licence)
            folder.mkdir(parents=True, exist_ok=True)
            part = _Part(folder, version)
            request = _request("ApiDownloadDatasetRequest", slug, dataset_version_number=version)
            _receive_all(slug, client, request, part, progress)
        return _keep(part, slug, version, licence)
    except requests.RequestException:
        raise _not_understood(slug) from None
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error.strerror or error}; make room and run again") from error


def find_archive(slug: str, folder: pathlib.Path) -> Archive | None:
    """The archive that a download left whole in `folder`, or None. Opens no connection."""
    try:
        record = json.loads((folder / RECORD).read_text())
        archive = Archive(
            slug, record["version"], record["licence"], record["bytes"], record["sha256"], folder / ARCHIVE
        )
        return archive if sha256(archive.path) == archive.sha256 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextlib.contextmanager
def _connect() -> Iterator[Any]:
    """Kaggle's client with time limits and retries, signed in when there are credentials."""
    from kagglehub.config import get_kaggle_credentials  # type: ignore[import-untyped]
    from kagglesdk.kaggle_client import KaggleClient  # type: ignore[import-untyped]
    from requests.adapters import HTTPAdapter
    from urllib3.util.retry import Retry

    class Adapter(HTTPAdapter):
        def send(self, request: Any, *args: Any, **options: Any) -> Any:
            return super().send(request, *args, **{**options, "timeout": TIMEOUT_SECONDS})

    try:
        found = get_kaggle_credentials()
    except (OSError, ValueError, TypeError):  # with no cause: it may hold the token, taken for the name of a file
        raise UsageError(f"the Kaggle credentials of this user cannot be read; {HOW_TO_SIGN_IN}") from None
    options = {"username": found.username, "password": found.key, "api_token": found.api_key} if found else {}
    if not all(isinstance(value, str) and VISIBLE.fullmatch(value) for value in options.values() if value is not None):
        raise UsageError(f"the Kaggle credentials have characters that none has, such as a line end; {HOW_TO_SIGN_IN}")
    retry = Retry(
        total=RETRIES, connect=1, read=0, status_forcelist=RETRIED_STATUS, allowed_methods=None,
        backoff_factor=BACKOFF_SECONDS, retry_after_max=LONGEST_WAIT_SECONDS, raise_on_status=False,
    )  # fmt: skip
    with KaggleClient(user_agent="overseer-training", **options) as client:
        session = client.http_client()._session  # the client offers no other way to a time limit
        for scheme in ("https://", "http://"):
            session.mount(scheme, Adapter(max_retries=retry))
        session.headers["Accept-Encoding"] = "identity"  # sizes and ranges count the bytes of the archive
        yield client


def _request(name: str, slug: str, **values: Any) -> Any:
    from kagglesdk.datasets.types import dataset_api_service  # type: ignore[import-untyped]

    request = getattr(dataset_api_service, name)()
    request.owner_slug, request.dataset_slug = slug.split("/")
    for key, value in values.items():
        setattr(request, key, value)
    return request


@contextlib.contextmanager
def _explained(slug: str, client: Any) -> Iterator[None]:
    """Turn what the HTTP library raises into one line that says what to do; causes, which may hold credentials, are left out."""
    import requests

    try:
        yield
    except requests.HTTPError as error:
        has_credentials = client.http_client()._session.auth is not None
        raise _refusal(slug, 0 if error.response is None else error.response.status_code, has_credentials) from None
    except requests.exceptions.SSLError:
        raise NotAvailableError(f"the certificate of Kaggle is not trusted here; check the proxy, {WITHOUT}") from None
    except (requests.ConnectionError, requests.Timeout):
        raise NotAvailableError(f"Kaggle cannot be reached; check the network and run again, {WITHOUT}") from None
    except (requests.RequestException, ValueError, KeyError, TypeError):
        raise _not_understood(slug) from None


def _not_understood(slug: str) -> OverseerError:
    return NotAvailableError(f"Kaggle's answer about {slug} cannot be understood; try again later, {WITHOUT}")


def _refusal(slug: str, status: int, has_credentials: bool) -> OverseerError:
    if status == 401 and has_credentials:
        return NotAvailableError(f"Kaggle refuses the credentials (401); {HOW_TO_SIGN_IN}")
    if status == 401:
        return NotAvailableError(f"Kaggle wants credentials for {slug} (401) and there are none; {HOW_TO_SIGN_IN}")
    if status == 403 and has_credentials:
        return DataError(
            f"Kaggle does not give {slug} to your account (403); accept its terms on its page, or take it off the list"
        )
    if status == 403:
        return DataError(f"Kaggle gives {slug} to accounts only (403); {HOW_TO_SIGN_IN}, or take it off the list")
    if status == 404:
        return DataError(f"Kaggle has no data set {slug}, or it is private (404); correct it, or take it off the list")
    if status == 429:
        return NotAvailableError(
            f"Kaggle has had too many requests (429), also after {RETRIES} retries; wait an hour, {WITHOUT}"
        )
    return NotAvailableError(
        f"Kaggle has an error of its own ({status}), also after {RETRIES} retries; try again later, {WITHOUT}"
    )


class _Part:
    """What has been got of an archive so far; a part of another version or another file is thrown away."""

    def __init__(self, folder: pathlib.Path, version: int) -> None:
        self.path, self._record, self._version = folder / PART, folder / PART_RECORD, version

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def belongs_to(self, response: Any) -> bool:
        """Whether the part was begun with the file that `response` offers; begins it if it was not."""
        offered = [self._version, _length(response), _md5(response), response.headers.get("ETag")]
        with contextlib.suppress(OSError, ValueError):
            if json.loads(self._record.read_text()) == offered:
                return True
        self.drop()
        write_json(self._record, offered)
        return False

    def drop(self) -> None:
        self.path.unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)


def _receive_all(slug: str, client: Any, request: Any, part: _Part, progress: Progress) -> None:
    """Fill `part`; a connection that breaks is taken up again as long as there is progress."""
    import requests

    cuts, size = 0, part.size
    while True:
        try:
            with _explained(slug, client):
                response = client.datasets.dataset_api_client.download_dataset(request)
            with contextlib.closing(response):
                _receive(response, part, progress)
            return
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
            cuts = 1 if part.size > size else cuts + 1
            size = part.size
            if cuts >= CUTS:
                raise DataError(
                    f"the connection to Kaggle broke {CUTS} times during {slug}; run again to go on after {size:,} bytes"
                ) from None
            time.sleep(BACKOFF_SECONDS * 2 ** (cuts - 1))


def _receive(response: Any, part: _Part, progress: Progress) -> None:
    """Read what `response` offers into `part`, or the rest of it where a part is there.

    Raises:
        requests.RequestException: the connection broke; what came is in `part`.
        DataError: the disk is full, or what came is not what was offered.
    """
    import requests

    total, start, source = _length(response), 0, response
    with contextlib.ExitStack() as stack:
        if part.belongs_to(response):
            rest = _rest(response, part.size, total)
            if rest is not None:
                start, source = part.size, stack.enter_context(rest)
        free = shutil.disk_usage(part.path.parent).free + part.size
        if total is not None and total > free:
            part.drop()
            raise DataError(
                f"the archive has {total:,} bytes and {free:,} are free in {part.path.parent}; make room and run again"
            )
        try:
            with part.path.open("ab" if start else "wb") as file:
                progress(start, total)
                for chunk in source.iter_content(CHUNK_BYTES):
                    start += file.write(chunk)
                    progress(start, total)
        except requests.RequestException:
            raise
        except OSError as error:
            part.drop()  # a full disk needs the room more than a later run needs the part
            raise DataError(
                f"{part.path.parent} cannot be written: {error.strerror}; make room and run again"
            ) from error
    _verify(part, total, _md5(response))


def _rest(response: Any, start: int, total: int | None) -> Any:
    """The answer with the bytes from `start` on, or None where the server does not give exactly these."""
    import requests

    if response.headers.get("Accept-Ranges") != "bytes" or total is None or not 0 < start < total:
        return None
    # The address that Kaggle led to is signed: it needs no credentials, and its host gets none.
    rest = requests.get(
        response.url, stream=True, timeout=TIMEOUT_SECONDS,
        headers={"Range": f"bytes={start}-", "Accept-Encoding": "identity"},
    )  # fmt: skip
    if rest.status_code == 206 and rest.headers.get("Content-Range") == f"bytes {start}-{total - 1}/{total}":
        return rest
    rest.close()
    return None


def _verify(part: _Part, total: int | None, expected: str | None) -> None:
    if total is not None and part.size != total:
        found_bytes = part.size
        part.drop()
        raise DataError(f"Kaggle sent {found_bytes:,} bytes where it announced {total:,}; run again")
    if expected is not None:
        with part.path.open("rb") as file:
            found = base64.b64encode(hashlib.file_digest(file, "md5").digest()).decode()
        if found != expected:
            part.drop()
            raise DataError("the archive does not have the checksum that Kaggle states; it was thrown away, run again")


def _keep(part: _Part, slug: str, version: int, licence: str) -> Archive:
    """Give the part its name and write the record."""
    folder = part.path.parent
    record = {"version": version, "licence": licence, "bytes": part.size, "sha256": sha256(part.path)}
    (folder / RECORD).unlink(missing_ok=True)
    sync_path(part.path)
    part.path.replace(folder / ARCHIVE)
    write_json(folder / RECORD, record)
    part.drop()
    return Archive(slug, version, licence, int(record["bytes"]), str(record["sha256"]), folder / ARCHIVE)  # type: ignore[call-overload]


def _length(response: Any) -> int | None:
    value = response.headers.get("Content-Length", "")
    return int(value) if value.isdecimal() else None


def _md5(response: Any) -> str | None:
    """The checksum in the header that Google's storage sends: `crc32c=...,md5=...`, base64."""
    for item in response.headers.get("x-goog-hash", "").split(","):
        name, _, value = item.strip().partition("=")
        if name == "md5":
            return str(value)
    return None
