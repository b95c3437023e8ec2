"""All doors through which a run takes something in, opened at once: one real run with real clients, and what each door gave.

    .venv/bin/python benchmarks/every_door.py --data DATA --work /tmp/doors

`main_training.py --cpu-only --download-data --continuous-learning --llm-integration --llm-hybrid true` runs to its end in a network
without any address but loopback (one_machine.py; Linux). There it finds Kaggle in its test environment, whose data sets are made from
nab.tar.gz and nl2bash.jsonl in DATA; three teachers, which are one real model in llama.cpp with three seeds: asked directly, as Ollama,
and as Gemini, which fails now and then; and a made-up owner's interactions and shell history. Nothing of the program is replaced.

Then the run folder is read, a table printed, and checked: no name of another machine was asked for, the API key and the passphrase
stand in no file and no process title, and nothing of the owner's stands in plain text. The exit code is that of the run, or 1 where a
check fails. Further flags go to main_training.py.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import csv
import dataclasses
import io
import json
import os
import pathlib
import secrets
import shutil
import ssl
import subprocess
import sys
import tarfile
import time
from typing import Any

from door_table import Requests, door_rows, print_doors
from leaks import TitleWatch, find_in_files
from one_machine import NameServer, bring_up, is_alone, make_certificate, start_again_alone
from owners import PASSPHRASE, ROOT, move_in

from overseer_training.data.sources.corpus import fill, load_families
from overseer_training.errors import OverseerError, UsageError
from overseer_training.export.llama_server import LlamaServer, llama_server
from overseer_training.learning.owners import WEB_ADMIN, simulate
from overseer_training.models import catalog
from overseer_training.models.fetch import prepare_base_model
from overseer_training.records import RunPaths
from overseer_training.teachers.openai_compatible import chat_request

sys.path.append(str(ROOT / "tests"))
from loopback import running
from loopback.kaggle import PORT as KAGGLE_PORT
from loopback.kaggle import Kaggle, zipped
from loopback.teachers import Chat, FakeServer

BASE = "smollm2-135m"
GEMINI_HOST, GEMINI_MODEL = "generativelanguage.googleapis.com", "gemini-flash-latest"
OLLAMA_MODEL = "smollm2"
HTTPS_PORT, OLLAMA_PORT = 443, 11434
# What Gemini does with requests, in turn: None answers one.
FAULTS = [None, 429, None, None, "malformed", None, 500, None, None, "slow", None, "cut", None] * 20
SLOW_SECONDS = 5.0
MARKERS = (
    "quillfern",
    "brambleworth",
    "tansyholm",
)  # the owner's sites, and folders in their history: no word of the corpus
HISTORY_SECRET = "Tz4kQw9mVb2xRn7c"
HISTORY_COMMANDS = 40
WITHOUT = ("KAGGLE", "GEMINI", "GOOGLE", "OLLAMA", "OVERSEER", "SSL_")  # variables of whoever starts this


class Voice(FakeServer):
    """A server whose answers are those of the llama.cpp server, with seeds of its own."""

    def __init__(self, port: int, model: str, llama: LlamaServer, number: int, **options: Any) -> None:
        super().__init__(port, model_bytes={model: 98_000_000}, **options)
        self._llama, self._number = llama, number

    def reply(self, chat: Chat) -> str:
        settings = {"json_schema": None, "max_tokens": 200, "temperature": 0.0, "seed": 0, **chat.settings}
        settings["seed"] += 1000 * self._number
        answer = self._llama.post("/v1/chat/completions", chat_request("", chat.messages, **settings))
        return str(answer["choices"][0]["message"]["content"])


def main() -> int:
    """Prepare, run, show, check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=pathlib.Path, required=True, help="folder with nab.tar.gz and nl2bash.jsonl")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="new folder for all that is written")
    parser.add_argument("--gguf", type=pathlib.Path, help="the model that teaches; the packaged one without it")
    parser.add_argument("--run", type=pathlib.Path, help="a finished run to go on from; from the base model without it")
    parser.add_argument("--pairs", type=int, default=1500, help="of each of two Kaggle data sets")
    parser.add_argument("--owner-requests", type=int, default=200, help="interactions of the owner")
    parser.add_argument("--threads", type=int, default=2, help="of llama.cpp; 1 where other programs compute too")
    arguments, flags = parser.parse_known_args()
    gguf = arguments.gguf or catalog.cache_folder() / "gguf" / f"{BASE}.gguf"
    if not gguf.is_file():
        raise UsageError(f"there is no model {gguf} to teach; give one with --gguf FILE")
    work = arguments.work.resolve()
    if work.exists() and any(work.iterdir()):
        raise UsageError(f"--work {work} is not empty; give a new folder")
    if not is_alone():
        if shutil.which("unshare") is None:
            raise UsageError(
                "there is no program unshare, which makes the network of its own; this runs on Linux alone"
            )
        prepare_base_model(BASE, print)
        start_again_alone()
    context = furnish(work, arguments.run)
    make_owner(work, arguments.owner_requests)
    with contextlib.ExitStack() as stack:
        kaggle = stack.enter_context(running(Kaggle(kaggle_archives(arguments.data, arguments.pairs), KAGGLE_PORT)))
        kaggle.refusals = [429, 503]  # the first calls; answered when asked again
        kaggle.cuts = {0: 100_000}  # a larger download breaks off once
        names = stack.enter_context(running(NameServer()))
        llama = stack.enter_context(llama_server(gguf, threads=arguments.threads, is_open=True))
        ollama = stack.enter_context(running(Voice(OLLAMA_PORT, OLLAMA_MODEL, llama, 1)))
        gemini = stack.enter_context(running(Voice(HTTPS_PORT, GEMINI_MODEL, llama, 2, certificate=context)))
        gemini.faults, gemini.slow_seconds = list(FAULTS), SLOW_SECONDS
        key = f"AIza{secrets.token_urlsafe(26)}"
        outcome = run_doors(work, [llama.address, f"ollama:{OLLAMA_MODEL}", f"gemini:{GEMINI_MODEL}"], key, flags)
    paths = RunPaths(work / "runs" / "doors")
    if outcome.code == 0:
        faults = collections.Counter(str(fault) for fault in FAULTS[: len(FAULTS) - len(gemini.faults)] if fault)
        requests = [Requests("Ollama", len(ollama.headers), {}), Requests("Gemini", len(gemini.headers), faults)]
        print_doors(door_rows(paths, kaggle.count("/storage/"), requests))
    problems = check(work, outcome, key, names)
    return outcome.code or int(problems)


def furnish(work: pathlib.Path, run: pathlib.Path | None) -> ssl.SSLContext:
    """Make `work` the home and the cache of this process, and of those that it starts, in a network that leads here.

    Returns:
        what a server needs to be taken for Gemini's.
    """
    cache = catalog.cache_folder().resolve()
    for name in ("home", "machine", "cache", "runs"):
        (work / name).mkdir(parents=True)
    bring_up(work / "machine", [GEMINI_HOST])
    certificate, context = make_certificate(work / "machine", GEMINI_HOST)
    for name in [name for name in os.environ if name.startswith(WITHOUT) or name.lower().endswith("_proxy")]:
        del os.environ[name]
    os.environ.setdefault("HF_HOME", str(pathlib.Path("~/.cache/huggingface").expanduser()))  # HOME will be another
    os.environ |= {
        "HOME": str(work / "home"),
        "OVERSEER_CACHE": str(work / "cache"),
        "KAGGLE_API_ENVIRONMENT": "TEST",
        "SSL_CERT_FILE": str(certificate),
    }
    (work / "cache" / "models").symlink_to(cache / "models")
    if run is not None:
        (work / "runs" / "latest").symlink_to(run.resolve())
    return context


def make_owner(work: pathlib.Path, requests: int) -> None:
    """Interactions with consent, and a shell history; each has a marker in it."""
    owner = dataclasses.replace(WEB_ADMIN, slots={**WEB_ADMIN.slots, "site": MARKERS})
    move_in(work, simulate(owner, requests))
    families = [one for one in load_families() if one.split == "train" and "dir" in one.slots[0]][:HISTORY_COMMANDS]
    lines = [
        fill(family.command, {**family.slots[0], "dir": MARKERS[number % len(MARKERS)]})
        for number, family in enumerate(families)
    ]
    lines.append(f"curl -u admin:{HISTORY_SECRET} https://{MARKERS[0]}.example.org/status")
    (work / "home" / ".bash_history").write_text("\n".join(lines) + "\n")


def kaggle_archives(data: pathlib.Path, pairs: int) -> dict[str, tuple[int, bytes]]:
    """Three of the data sets that ship on the list, as Kaggle would send them; it knows none of the others."""
    with tarfile.open(data / "nab.tar.gz") as archive:
        members = [member for member in archive.getmembers() if member.name.endswith(".csv")]
        series = {member.name.removeprefix("nab/"): archive.extractfile(member).read().decode() for member in members}  # type: ignore[union-attr]
    with (data / "nl2bash.jsonl").open() as file:
        rows = [json.loads(line) for line in file]
    step = max(1, len(rows) // (2 * pairs))
    first, second = rows[:: 2 * step][:pairs], rows[step :: 2 * step][:pairs]
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerow(["Command", "Description"])
    writer.writerows([row["command"], row["query"]] for row in first)
    lines = "".join(json.dumps({"instruction": row["query"], "output": row["command"]}) + "\n" for row in second)
    return {
        "boltzmannbrain/nab": (1, zipped(series)),
        "cyberprince/linux-terminal-commands-dataset": (3, zipped({"commands.csv": table.getvalue()})),
        "kushagragoyal060705/complex-linux-commands-from-natual-language": (2, zipped({"data/train.jsonl": lines})),
    }


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the run did that its folder does not say.

    Attributes:
        shown_seconds: how long the key could be read in a process title before the first line of the run.
        shown_later: the same after it.
        looks: how often all titles were read.
    """

    code: int
    output: str
    seconds: float
    shown_seconds: float
    shown_later: bool
    looks: int


def run_doors(work: pathlib.Path, teachers: list[str], key: str, flags: list[str]) -> Outcome:
    """The real command; its lines are passed on as they come."""
    command = [
        sys.executable, str(ROOT / "main_training.py"), "--cpu-only", "--download-data", "--continuous-learning",
        "--llm-integration", "--llm-hybrid", "true", "--llm-model", ",".join(teachers), "--llm-api-key", key,
        "--sources", "history", "--base-model", BASE, "--output-dir", str(work / "runs"), "--run-name", "doors",
        "--teacher-requests", "45", "--max-steps", "12", "--test-tasks", "40", "--composed-rows", "5000",
        "--augmented-copies", "0", *flags,
    ]  # fmt: skip
    print("$", *(("<key>" if word == key else word) for word in command[1:]), flush=True)
    watch = TitleWatch(key)
    watch.start()
    began, lines, first = time.monotonic(), [], None
    with subprocess.Popen(
        command, cwd=work, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            first = first or time.monotonic()
            lines.append(line)
            print(line, end="", flush=True)
    seconds = time.monotonic() - began
    watch.stop()
    (work / "output").write_text("".join(lines))
    until = first or time.monotonic()
    early = [moment for moment in watch.seen if moment <= until]
    return Outcome(
        process.returncode, "".join(lines), seconds, early[-1] - began if early else 0.0, len(early) < len(watch.seen), watch.looks
    )  # fmt: skip


def check(work: pathlib.Path, outcome: Outcome, key: str, names: NameServer) -> bool:
    """Print what was looked for, and what was found; gives whether anything was, or the search itself is blind."""
    texts = {"the API key": key, "the passphrase": PASSPHRASE, "a secret of the shell history": HISTORY_SECRET}
    texts |= {f"the owner's {marker!r}": marker for marker in MARKERS}
    number, found = find_in_files([work / name for name in ("runs", "state", "cache", "share", "machine")], texts)
    control = len(find_in_files([work / "home"], texts)[1])  # the shell history has to hold them
    found += ["NOTHING IN THE SHELL HISTORY ITSELF: this search finds nothing"] * (control == 0)
    found += [f"{what} in what the run printed" for what, text in texts.items() if text in outcome.output]
    found += ["the API key in a process title after the first line of the run"] * outcome.shown_later
    found += [f"a question for the name {name}" for name in sorted(names.asked)]
    print(f"\nran {outcome.seconds:.0f} s; exit code {outcome.code}")
    print("network: loopback alone" if is_alone() else "network: NOT ALONE")
    print(f"names asked for that are not of this machine: {len(names.asked)}")
    print(
        f"process titles, read {outcome.looks:,} times: the key could be seen for {outcome.shown_seconds:.1f} s at the start"
    )
    print(
        f"files read: {number:,}; looked for: {', '.join(texts)} (control: {control} of these are found in the shell history)"
    )
    for what in found:
        print(f"FOUND: {what}")
    print("no leak was found" if not found else f"{len(found)} leaks")
    return bool(found) or not is_alone()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except OverseerError as error:
        sys.exit(f"error: {error}")
