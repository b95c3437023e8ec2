"""A loopback server with Ollama's routes for making models: blobs whose digest is checked, create with streamed status, show."""

from __future__ import annotations

import hashlib
import http.server
import json
import pathlib
from typing import Any


class OllamaLike(http.server.ThreadingHTTPServer):
    """`faults`: "create" ends with an error in the stream, "cut" breaks it off, "template" forgets the template."""

    daemon_threads = True

    def __init__(self, folder: pathlib.Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.models: dict[str, dict[str, Any]] = {}
        self.faults: set[str] = set()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def blob(self, digest: str) -> pathlib.Path:
        return self.folder / digest.replace(":", "-")


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: OllamaLike

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.startswith("/api/blobs/"):
            self._take_blob(self.path.removeprefix("/api/blobs/"), content)
        elif self.path == "/api/create":
            self._create(json.loads(content))
        elif self.path == "/api/show":
            model = self.server.models[json.loads(content)["model"]]
            shown = {"template": model.get("template", ""), "system": model["system"], "model_info": {}}
            self._send(200, json.dumps(shown))
        else:
            self._send(404, "404 page not found")

    def _take_blob(self, digest: str, content: bytes) -> None:
        if digest != f"sha256:{hashlib.sha256(content).hexdigest()}":
            self._send(400, json.dumps({"error": "digest mismatch"}))
            return
        self.server.blob(digest).write_bytes(content)
        self._send(201, "")

    def _create(self, body: dict[str, Any]) -> None:
        missing = [digest for digest in body["files"].values() if not self.server.blob(digest).is_file()]
        if missing:
            self._send(400, json.dumps({"error": f"blob {missing[0]} not found"}))
            return
        lines: list[dict[str, str]] = [{"status": "parsing GGUF"}, {"status": "creating new layer"}]
        if "create" in self.server.faults:
            lines.append({"error": "unsupported architecture"})
        elif "cut" not in self.server.faults:
            if "template" in self.server.faults:
                body.pop("template")
            self.server.models[body["model"]] = body
            lines += [{"status": "writing manifest"}, {"status": "success"}]
        self._send(200, "".join(json.dumps(line) + "\n" for line in lines))

    def _send(self, status: int, text: str) -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
