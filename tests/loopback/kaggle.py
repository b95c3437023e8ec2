"""A Kaggle-shaped server on a port of this machine, which Kaggle's real client takes for Kaggle in its test environment."""

from __future__ import annotations

import http.server
import io
import json
import socket
import zipfile
from collections.abc import Mapping
from typing import Any

PORT = 7777  # where Kaggle's client looks for the server of KAGGLE_API_ENVIRONMENT=TEST


def zipped(files: Mapping[str, str]) -> bytes:
    """An archive of `files`, name -> content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


class Kaggle(http.server.ThreadingHTTPServer):
    """What of Kaggle's interface is used: two calls, and a storage host that they lead to.

    Attributes:
        archives: slug -> (version, content).
        refusals: statuses that the next calls get instead of an answer.
        cuts: first byte of an answer -> after how many bytes it breaks.
        nonsense: what every call answers instead of what it should.
        requests: (path, headers) as they came.
    """

    daemon_threads = True

    def __init__(self, archives: dict[str, tuple[int, bytes]], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.archives = archives
        self.licence = "CC0-1.0"
        self.nonsense: Any = None
        self.refusals: list[int] = []
        self.cuts: dict[int, int] = {}
        self.storage: dict[str, str] = {"Accept-Ranges": "bytes"}
        self.ignores_ranges = False
        self.requests: list[tuple[str, dict[str, str]]] = []

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is what some tests do."""

    def count(self, part: str) -> int:
        return sum(part in path for path, _ in self.requests)


class Handler(http.server.BaseHTTPRequestHandler):
    server: Kaggle
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, dict(self.headers)))
        slug = f"{request['ownerSlug']}/{request['datasetSlug']}"
        if self.server.refusals:
            status = self.server.refusals.pop(0)
            return self.answer(status, {"code": status, "message": "no"}, {"Retry-After": "0"} if status == 429 else {})
        if self.server.nonsense is not None:
            return self.answer(200, self.server.nonsense)
        if slug not in self.server.archives:
            return self.answer(404, {"code": 404, "message": "not found"})
        if self.path.endswith("GetDataset"):
            version = self.server.archives[slug][0]
            return self.answer(200, {"ref": slug, "currentVersionNumber": version, "licenseName": self.server.licence})
        # Another name of this host, as Kaggle's storage has one: the credentials must not go there.
        return self.answer(
            302, {}, {"Location": f"http://127.0.0.1:{self.server.server_port}/storage/{slug}?signature=x"}
        )

    def do_GET(self) -> None:
        self.server.requests.append((self.path, dict(self.headers)))
        content = self.server.archives[self.path.removeprefix("/storage/").partition("?")[0]][1]
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        if self.server.ignores_ranges:
            start = 0
        self.send_response(206 if start else 200)
        for name, value in self.server.storage.items():
            self.send_header(name, value)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if start in self.server.cuts:
            self.wfile.write(content[start : start + self.server.cuts[start]])
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.wfile.write(content[start:])

    def answer(self, status: int, document: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
