"""Makes a model in a running Ollama server, through its official client.

Takes model.gguf and its settings; the server then has the model by its name. Weights stay on this machine unless the
caller allows the host. Not covered: adapters and safetensors (servers convert them for few bases, newer ones for none),
and quantizing on import (newer servers do not: the file is quantized before).
"""

from __future__ import annotations

import contextlib
import pathlib
import re
from collections.abc import Callable, Iterator

import httpx
import ollama

from overseer_training.errors import NotAvailableError, OverseerError, UsageError
from overseer_training.export.ollama_file import OllamaSettings
from overseer_training.teachers import connection
from overseer_training.teachers.connection import Allow, allow_none
from overseer_training.teachers.ollama import find_address

DEFAULT_NAME = "overseer"
TIMEOUT_SECONDS = 600.0  # chosen: a server hashes and copies gigabytes between two lines of its answer
_NAME = re.compile(r"([\w-]+[\w.-]*/){0,2}[\w-]+[\w.-]*(:[\w-]+[\w.-]*)?", re.ASCII)


class OllamaServer:
    """Where a model is made, and by which name; nothing is sent before `create`."""

    def __init__(self, name: str = DEFAULT_NAME, address: str | None = None, *, allow: Allow = allow_none) -> None:
        """Check name and address.

        Args:
            name: of the model, as in `ollama run NAME`; a model of this name is replaced.
            address: of the server; None takes $OLLAMA_HOST, else this machine.
            allow: host -> may the weights be sent there? This machine always may.

        Raises:
            UsageError: the name or the address is none, or the host is not allowed.
        """
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r} is no name for a model in Ollama; it looks like overseer or overseer:v2")
        self.name = name
        self.address = find_address(address)
        try:
            host = connection.host_of(self.address)
        except UsageError as error:
            raise UsageError("the address of Ollama cannot be read; it looks like http://127.0.0.1:11434") from error
        if not connection.is_loopback(host) and not allow(host):
            raise UsageError(
                f"Ollama at {self.address} is not on this machine, and the weights may hold what they were trained on; "
                "allow that host, or unset OLLAMA_HOST"
            )
        self._has_proxy = connection.may_use_proxy(host)

    def create(
        self, weights: pathlib.Path, settings: OllamaSettings, notify: Callable[[str], None] = lambda message: None
    ) -> None:
        """Send `weights` and make the model; it replaces one of the same name.

        Raises:
            NotAvailableError: no server answers.
            OverseerError: the server refuses, breaks off, or keeps other settings than those it was sent.
        """
        with self._client() as client:
            digest = client.create_blob(weights)
            status = None
            for progress in client.create(
                self.name,
                files={weights.name: digest},
                template=settings.template,
                system=settings.system,
                parameters=settings.parameters,
                stream=True,
            ):
                status = progress.status
            if status != "success":
                raise OverseerError(f"Ollama broke off after {status!r} and made no model {self.name}. Export again.")
            shown = client.show(self.name)
        if (shown.template or "") != settings.template:
            raise OverseerError(
                f"Ollama made {self.name} with another template than training had, so its answers would differ. "
                f"Remove it with: ollama rm {self.name}"
            )
        notify(f"made {self.name} in Ollama at {self.address}; try: ollama run {self.name}")

    @contextlib.contextmanager
    def _client(self) -> Iterator[ollama.Client]:
        """A connected client; what it raises becomes an error for people."""
        try:
            with ollama.Client(
                self.address,
                timeout=connection.timeouts(TIMEOUT_SECONDS),
                follow_redirects=False,
                trust_env=self._has_proxy,
            ) as client:
                yield client
        except (ConnectionError, httpx.ConnectError) as error:
            raise NotAvailableError(
                f"no Ollama server answers at {self.address}; start one with: ollama serve"
            ) from error
        except httpx.HTTPError as error:
            raise OverseerError(f"Ollama at {self.address} broke off: {error or type(error).__name__}") from error
        except ollama.ResponseError as error:
            said = " ".join(error.error.split())[:300]
            raise OverseerError(f"Ollama at {self.address} made no model {self.name}: {said}") from error
        except (ValueError, AttributeError, TypeError) as error:  # the client trusts the form of what it is sent
            raise OverseerError(f"what answers at {self.address} does not speak as Ollama does; is it one?") from error
