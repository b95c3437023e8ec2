"""A run whose tiny model has learned a handful of answers by heart, exported as a run is; and a server over it."""

from __future__ import annotations

import pathlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from overseer_training.prompts import EXPLAIN_REQUEST, REPAIR_REQUEST, with_system
from overseer_training.records import RunPaths, Turn
from overseer_training.serving.backends import Answer, Backend, Message, Settings, load_backend
from overseer_training.serving.server import Server

DIALOGUES = [
    ("list the files in src", "ls src"),
    ("count the lines of notes", "wc -l notes"),
    ("print hello", "echo hello"),
    ("fail loudly", "cat ./missing"),
    ("erase the whole machine", "rm -rf /"),
    ("restart the machine", "reboot"),
    ("list the files in src", "ls src", "hidden ones too", "ls -A src"),
    ("print hello", "echo hello", EXPLAIN_REQUEST, "Prints hello."),
    *(
        ("fail loudly", "cat ./missing", REPAIR_REQUEST.format(
            command="cat ./missing", stderr=f"cat: {name}: No such file or directory", exit_code=1
        ), "touch ./missing")
        for name in ("./missing", "'./missing'")  # GNU's form, and that of others
    ),
]  # fmt: skip
DIMENSIONS = {
    "vocabulary_size": 500,
    "hidden_size": 64,
    "intermediate_size": 128,
    "layers": 2,
    "attention_heads": 4,
    "key_value_heads": 2,
}


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """runs/tiny with model/ and export/, signed; read only."""
    import torch
    from transformers import AutoModelForCausalLM

    from overseer_training.export.export_run import export_run
    from overseer_training.models.custom import build_custom_model
    from overseer_training.models.load import load_tokenizer, save_trained

    torch.set_num_threads(1)  # products this small lose more by waiting for each other than they gain
    base, run = tmp_path_factory.mktemp("base"), tmp_path_factory.mktemp("runs") / "tiny"
    build_custom_model(DIMENSIONS, [text for d in DIALOGUES for text in d], base, sequence_length=64, seed=1)
    tokenizer: Any = load_tokenizer(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    _learn_by_heart(model, tokenizer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OVERSEER_PASSPHRASE", "several quiet words")
        save_trained(model, tokenizer, run / "model", base_name="custom", base_folder=None, method="full")
        export_run(RunPaths(run), parity_requests=[with_system([Turn("user", dialogue[0])]) for dialogue in DIALOGUES])
    return run


def _learn_by_heart(model: Any, tokenizer: Any) -> None:
    import torch

    rows, labels = [], []
    for dialogue in DIALOGUES:
        roles = ("user", "assistant") * (len(dialogue) // 2)
        turns = [Turn(role, text) for role, text in zip(roles, dialogue, strict=True)]
        ids = tokenizer.apply_chat_template(with_system(turns))["input_ids"]
        prompt = tokenizer.apply_chat_template(with_system(turns[:-1]), add_generation_prompt=True)["input_ids"]
        rows.append(ids)
        labels.append([-100] * len(prompt) + ids[len(prompt) :])
    longest = max(map(len, rows))
    ids_bt = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    labels_bt = torch.tensor([row + [-100] * (longest - len(row)) for row in labels])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(120):
        loss = model(input_ids=ids_bt, labels=labels_bt).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert loss < 0.02, float(loss)


@pytest.fixture(scope="session")
def backend(run_folder: pathlib.Path) -> Backend:
    """The run's model in llama.cpp."""
    return load_backend(run_folder)


class Gated:
    """The model behind a gate: each answer waits until `open` is called for it, or until nobody wants it any more."""

    kind = "gated"

    def __init__(self, inner: Backend) -> None:
        self._inner, self._gate = inner, threading.Semaphore(0)
        self.entered = threading.Semaphore(0)
        self.cancelled = threading.Semaphore(0)

    def open(self) -> None:
        self._gate.release()

    def answer(self, messages: Sequence[Message], settings: Settings) -> Answer:
        self.entered.release()
        deadline = time.monotonic() + 30
        while not self._gate.acquire(timeout=0.01):
            assert time.monotonic() < deadline, "the gate stayed closed"
            if settings.should_stop():
                self.cancelled.release()
                return Answer("", 0, 0, "cancelled")
        return self._inner.answer(messages, settings)


@pytest.fixture
def gated(backend: Backend) -> Gated:
    return Gated(backend)


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Starts servers on free ports; they are closed after the test."""
    running: list[tuple[Server, threading.Thread]] = []

    def start(backend: Backend, **settings: Any) -> Server:
        server = Server(backend, "tiny", port=0, **settings)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.close()
        thread.join()
