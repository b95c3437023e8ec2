"""Commands that keep a model at hand: a server for programs, and a conversation for people."""

from __future__ import annotations

import argparse
import pathlib
import sys
from typing import Any

from overseer_training.commands.model import add_model, say_to_stderr

PORT = 8765


def add(commands: Any) -> None:
    """Add the parsers of this topic."""
    serve = commands.add_parser("serve", help="an OpenAI-compatible server on this machine", allow_abbrev=False)
    add_model(serve)
    serve.add_argument("--port", type=int, default=PORT, help=f"({PORT})")
    serve.add_argument("--host", default="127.0.0.1", help="another than this machine needs --token-file (127.0.0.1)")
    serve.add_argument(
        "--token-file", type=pathlib.Path, metavar="FILE", help="what clients must know; readable by you alone"
    )
    serve.set_defaults(run=_serve)
    chat = commands.add_parser("chat", help="a conversation; nothing is run unless you say so", allow_abbrev=False)
    add_model(chat)
    chat.set_defaults(run=_chat)


def _serve(flags: argparse.Namespace) -> int:
    from overseer_training.serving.server import serve

    serve(flags.model, host=flags.host, port=flags.port, token_file=flags.token_file, say=say_to_stderr)
    return 0


def _chat(flags: argparse.Namespace) -> int:
    from overseer_training.config.machine import find_machine
    from overseer_training.serving.backends import load_backend
    from overseer_training.serving.chat import converse

    if sys.stdin.isatty():
        say_to_stderr("loading the model; /quit leaves, /run runs the last command")
    converse(load_backend(flags.model), "macos" if find_machine().system == "macOS" else "linux")
    return 0
