"""A training that is attacked: a process that is small, real, and quickly there.

A start of Python with torch takes seconds, and there are hundreds of attacks. So one process imports everything once, computes
nothing, and forks a victim for each request. It is told by lines of JSON what to run, and answers with process ids and exit codes.
"""

from __future__ import annotations

import ctypes
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

ROOT = pathlib.Path(__file__).parents[2]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

SOAK = int(os.environ.get("OVERSEER_SOAK", "1"))  # how many times as many attacks as in `make test`
SMALL_FILE = 20_000  # bytes; less than the weights
STATE = ("weights.safetensors", "moments.safetensors", "best.safetensors")


class Zygote:
    """Forks victims. Each one's output is in the file `output` of its folder."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(pathlib.Path(__file__))], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def start(self, folder: pathlib.Path, **options: Any) -> Victim:
        folder.mkdir(parents=True, exist_ok=True)
        events = folder / ".events"
        events.unlink(missing_ok=True)
        os.mkfifo(events)
        reader = os.open(events, os.O_RDONLY | os.O_NONBLOCK)
        pid = self._ask({"folder": str(folder), **options})
        os.set_blocking(reader, True)
        return Victim(self, pid, reader, folder)

    def wait(self, pid: int) -> int:
        return self._ask({"wait": pid})

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()

    def _ask(self, request: dict[str, Any]) -> int:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


class Victim:
    """One training under way. Its events are single letters: R runs, T a step, S a save begins, E it ends."""

    def __init__(self, zygote: Zygote, pid: int, reader: int, folder: pathlib.Path) -> None:
        self._zygote, self.pid, self._reader, self.folder = zygote, pid, reader, folder
        self.events = ""

    def wait_for(self, event: str, times: int = 1) -> bool:
        """Whether that many more such events came before the end."""
        seen = self.events.count(event)
        while self.events.count(event) < seen + times:
            if not self._read():
                return False
        return True

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        """The exit code; minus the number of the signal that killed it."""
        code = self._zygote.wait(self.pid)
        while self._read():
            pass
        os.close(self._reader)
        return code

    @property
    def was_saving(self) -> bool:
        """Whether the end came inside a save."""
        return self.events.count("S") > self.events.count("E")

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text()

    def _read(self) -> bool:
        letters = os.read(self._reader, 1 << 16).decode()
        self.events += letters
        return bool(letters)


def state_of(checkpoint: pathlib.Path) -> dict[str, Any]:
    """Everything in a checkpoint that must be the same, as values to compare."""
    state = json.loads((checkpoint / "state.json").read_text())
    del state["seconds"]
    return {**state, **{name: (checkpoint / name).read_bytes() for name in STATE if (checkpoint / name).exists()}}


def losses_of(folder: pathlib.Path) -> list[tuple[int, float, float]]:
    """(step, loss, gradient norm) of each training step in the metrics, in their order."""
    events = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(event["step"], event["loss"], event["grad_norm"]) for event in events if event["kind"] == "train"]


# From here on: what a victim does.


def train(folder: pathlib.Path, options: dict[str, Any]) -> int:
    """Train from the newest checkpoint in `folder`, if there is one, to the last step; the exit code of the program."""
    import torch

    from overseer_training.errors import OverseerError
    from overseer_training.reporting.events import MetricsFile, broadcast
    from overseer_training.run_folder import only_run_in
    from overseer_training.training import checkpoints, engine
    from overseer_training.training.batches import Schedule
    from overseer_training.training.checkpoint_paths import find_checkpoint, list_checkpoints
    from overseer_training.training.stop_signals import StopSignals

    tell = _letters(options["events"])
    save = checkpoints.save_checkpoint

    saves = 0

    def told_save(*arguments: Any) -> Any:
        nonlocal saves
        saves += 1
        if saves == options.get("small_files_from_save"):
            resource.setrlimit(resource.RLIMIT_FSIZE, (SMALL_FILE, SMALL_FILE))
        tell("S")
        path = save(*arguments)
        tell("E")
        return path

    checkpoints.save_checkpoint = told_save  # the engine calls it by this name
    if options.get("keep_all"):
        checkpoints.KEPT = 1 << 30
    if "kill_at" in options:
        _die_at_operation(options["kill_at"], options["save"])
    torch.set_num_threads(1)
    if options.get("clock_jumps"):
        time.time = lambda: random.choice((0.0, 1e9, 4e9))
    plan = make_plan(options)
    if "disk_bytes" in options:
        _mount_small_disk(folder / "checkpoints", options["disk_bytes"])
    try:
        with only_run_in(folder):
            trainer = make_trainer(folder, plan, options)
            resumed = None
            if list_checkpoints(trainer.folder):
                resumed = find_checkpoint(trainer.folder, print)
                trainer.restore(checkpoints.load_checkpoint(resumed))
            else:
                (folder / "metrics.jsonl").unlink(missing_ok=True)  # of an attempt that saved nothing: this is a new run
            trainer.listener = broadcast(
                MetricsFile(folder / "metrics.jsonl"), lambda event: tell("T") if event["kind"] == "train" else None
            )
            if "memory_above_now" in options:
                _limit_memory(options["memory_above_now"])
            schedule = Schedule(
                len(trainer.train_set), plan.effective_batch_size, plan.epochs, plan.max_steps, plan.seed
            )
            with StopSignals() as stop:
                tell("R")
                outcome: engine.Outcome = trainer.run(schedule, stop, resumed)
            print(outcome.reason, outcome.message)
            return outcome.exit_code
    except OverseerError as error:
        print(f"error: {error}")
        if "disk_bytes" in options:
            shutil.copytree(folder / "checkpoints", folder / "rescued", ignore_dangling_symlinks=True)
        return error.exit_code


def make_plan(options: dict[str, Any]) -> Any:
    from overseer_training.config.flags import build_parser
    from overseer_training.config.load import load_configuration
    from overseer_training.config.machine import find_machine
    from overseer_training.config.resolve import resolve

    values = {"max-steps": 24, "save-steps": 2, "eval-steps": 3, "precision": "fp32", **options.get("flags", {})}
    flags = [
        *("--device", "cpu", "--micro-batch-size", "4", "--gradient-accumulation-steps", "2", "--epochs", "1000"),
        *("--method", "full", "--warmup-steps", "2", "--ram-limit", "1.0", "--early-stopping-patience", "100000"),
        *(text for name, value in values.items() for text in (f"--{name}", str(value))),
    ]
    plan = resolve(build_parser().parse_args(flags), load_configuration(), find_machine(), for_run=True)
    return plan.with_values({"effective_learning_rate": (3e-3, "test")})


def make_trainer(folder: pathlib.Path, plan: Any, options: dict[str, Any]) -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from overseer_training.training.engine import Trainer

    torch.manual_seed(plan.seed)
    size = options.get("size", 32)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=size,
        intermediate_size=2 * size,
        num_hidden_layers=options.get("layers", 2),
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        attention_dropout=options.get("dropout", 0.0),
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    if plan.precision == "bf16":
        model = model.to(torch.bfloat16)
    model.train()
    longest = options.get("longest", 10)
    rows, validation = make_rows(options.get("rows", 40), longest, 0), make_rows(8, longest, 1)
    return Trainer(model, rows, validation, plan, folder=folder / "checkpoints", listener=lambda event: None)


def make_rows(count: int, longest: int, seed: int) -> Any:
    """Rows whose answer repeats their prompt of 3 to `longest` tokens."""
    import numpy as np

    from overseer_training.data.tokenize import IGNORED, TokenSet

    draw = np.random.default_rng(seed)
    halves = [draw.integers(3, 64, draw.integers(3, longest + 1)) for _ in range(count)]
    ids = np.concatenate([np.concatenate([half, half]) for half in halves])
    labels = np.concatenate([np.concatenate([np.full_like(half, IGNORED), half]) for half in halves])
    starts = np.cumsum([0, *(2 * len(half) for half in halves)])
    return TokenSet(ids.astype(np.int32), labels.astype(np.int32), starts)


def _letters(descriptor: int) -> Callable[[str], None]:
    """Writes each letter at once."""

    def tell(letter: str) -> None:
        os.write(descriptor, letter.encode())

    return tell


def _die_at_operation(number: int, save: int) -> None:
    """SIGKILL before the operation with this number of save number `save`: whatever changes files, and half of each large write."""
    from overseer_training.training import checkpoints

    done = saves = 0
    write, publish = checkpoints.save_file, checkpoints.save_checkpoint

    def count() -> None:
        nonlocal done
        if saves == save:
            done += 1
            if done == number:
                os.kill(os.getpid(), signal.SIGKILL)

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any, **keywords: Any) -> Any:
            count()
            return call(*arguments, **keywords)

        return counting

    def half_written(tensors: Any, path: Any) -> None:
        count()
        write(tensors, path)
        if saves == save and done + 1 == number:
            os.truncate(path, path.stat().st_size // 2)
        count()

    def counted_save(*arguments: Any) -> Any:
        nonlocal saves
        saves += 1
        return publish(*arguments)

    checkpoints.save_file, checkpoints.save_checkpoint = half_written, counted_save
    for name in ("fsync", "mkdir", "rename", "replace", "link", "unlink", "rmdir", "open"):
        setattr(os, name, counted(getattr(os, name)))


def _mount_small_disk(folder: pathlib.Path, size: int) -> None:
    """A file system of `size` bytes at `folder`, seen by this process alone; ends with code 77 where that is not allowed."""
    if not sys.platform.startswith("linux"):
        os._exit(77)
    library = ctypes.CDLL(None, use_errno=True)
    new_namespaces = 0x00020000 | (0 if os.geteuid() == 0 else 0x10000000)  # CLONE_NEWNS, CLONE_NEWUSER
    folder.mkdir(exist_ok=True)
    private, recursive = 1 << 18, 1 << 14  # MS_PRIVATE, MS_REC
    if (
        library.unshare(new_namespaces)
        or library.mount(b"none", b"/", None, private | recursive, None)
        or library.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, f"size={size}".encode())
    ):
        os._exit(77)


def _limit_memory(extra_bytes: int) -> None:
    """Let the address space grow by at most so much from here on."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + extra_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _fork(request: dict[str, Any]) -> int:
    folder = pathlib.Path(request["folder"])
    request["events"] = os.open(folder / ".events", os.O_WRONLY)  # before the fork: a pipe without writers has ended
    pid = os.fork()
    if pid:
        os.close(request["events"])
        return pid
    code = 99
    try:
        output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)
        for number in request.get("ignore", ()):
            signal.signal(number, signal.SIG_IGN)
        random.seed(os.getpid())
        code = train(folder, request)
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _serve() -> None:
    import torch  # noqa: F401
    import transformers.models.llama.modeling_llama  # noqa: F401

    import overseer_training.reporting.events
    import overseer_training.run_folder
    import overseer_training.training.engine  # noqa: F401

    make_plan({})  # reads the configuration and finds the machine once
    for line in sys.stdin:
        request = json.loads(line)
        print(_wait(request["wait"]) if "wait" in request else _fork(request), flush=True)


if __name__ == "__main__":
    _serve()
