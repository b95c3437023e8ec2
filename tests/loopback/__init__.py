"""Servers on this machine that stand in for services elsewhere; for the tests, and for benchmarks/every_door.py."""

from __future__ import annotations

import contextlib
import socketserver
import threading
from collections.abc import Iterator
from typing import TypeVar

AnyServer = TypeVar("AnyServer", bound=socketserver.BaseServer)


@contextlib.contextmanager
def running(server: AnyServer) -> Iterator[AnyServer]:
    """`server`, which answers from another thread until the block ends."""
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
