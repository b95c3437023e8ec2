"""How much time and memory a large file of a user's takes, from the file to the batches of training.

    .venv/bin/python benchmarks/data_scale.py --rows 1000000 --work /tmp/scale

Makes a file of so many requests with commands, and measures three stages, each in a process of its own: `rows` builds the rows of a run with
`--sources FILE`, `tokens` makes their tokens, `batches` reads the rows of 200 steps. Peak memory is the kernel's (`getrusage`), and counts pages
of mapped files too. Further flags are those of `main_training.py`; `--composed-rows 0 --augmented-copies 0 --prediction-rows 0` leaves little
but the file. What was written is removed at the end.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable

from overseer_training.config.flags import build_parser
from overseer_training.config.plan import Plan
from overseer_training.data.row_file import read_manifest, read_rows
from overseer_training.planning import make_plan

STEPS = 200
PEAK_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes, of getrusage
VERBS = ["find", "list", "show", "count", "print", "display", "locate", "collect", "check", "review"]
THINGS = ["logs", "reports", "drafts", "photos", "invoices", "backups", "scripts", "notes", "archives", "records"]
COMMANDS = (
    "find {folder} -name '*{word}*' -mtime -{number} -type f",
    "grep -rn '{word}' {folder} | head -n {number}",
    "du -ah {folder} | sort -rh | head -n {number}",
    "ls -lt {folder}/{word} | tail -n {number}",
    "tar -czf {word}-{number}.tar.gz {folder}",
)


def main() -> None:
    """Make the file, measure each stage, print a line for each, and clean up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--work", type=pathlib.Path, required=True, help="an empty folder with room: about 1 KB a row")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    arguments, flags = parser.parse_known_args()
    file, data = arguments.work / "requests.jsonl", arguments.work / "data"
    if arguments.stage:
        started = time.monotonic(), time.process_time()
        sources = ["--sources", str(file)] if arguments.stage == "rows" else []
        plan, _ = make_plan(build_parser().parse_args([*sources, *flags]), for_run=False)
        rows = STAGES[arguments.stage](plan, data)
        seconds = [
            round(now - then, 1) for now, then in zip((time.monotonic(), time.process_time()), started, strict=True)
        ]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * PEAK_UNIT
        print(json.dumps({"rows": rows, "seconds": seconds[0], "cpu_seconds": seconds[1], "peak_mib": peak >> 20}))
        return
    arguments.work.mkdir(parents=True)
    try:
        write_requests(file, arguments.rows)
        print(f"{arguments.rows} requests, {file.stat().st_size / 2**20:.0f} MiB", flush=True)
        for stage in STAGES:
            command = [sys.executable, __file__, "--work", str(arguments.work), "--stage", stage, *flags]
            line = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
            print(f"{stage:<8} {line}", flush=True)
        print(f"set aside: {read_manifest(data)['quarantined']}")
    finally:
        shutil.rmtree(arguments.work)


def write_requests(file: pathlib.Path, count: int) -> None:
    """Requests that differ, with a repeated one, one that is no pair and a harmful one in each thousand."""
    rng = random.Random(count)
    with file.open("w") as output:
        for row in range(count):
            word, folder = f"{rng.choice(THINGS)}{rng.randrange(10**6)}", f"{rng.choice(THINGS)}/{rng.randrange(10**4)}"
            number = rng.randrange(2, 500)
            request = f"{rng.choice(VERBS)} what is called {word} in {folder}, at most {number} of them, and say when it was changed last"
            command = rng.choice(COMMANDS).format(word=word, folder=folder, number=number)
            if row % 1000 == 1:
                request, command = "list all files", "ls -a"
            elif row % 1000 == 2:
                command = ""
            elif row % 1000 == 3:
                command = "rm -rf /"
            output.write(json.dumps({"request": request, "command": command}) + "\n")


def build_rows(plan: Plan, data: pathlib.Path) -> int:
    """Rows, from the file to the folder of a run."""
    from overseer_training.data import build

    return len(build.build_rows(plan, data)["train"])


def make_tokens(plan: Plan, data: pathlib.Path) -> int:
    """Tokens on disk."""
    from overseer_training.data.token_file import training_tokens
    from overseer_training.models.fetch import prepare_base_model
    from overseer_training.models.load import load_tokenizer, stop_ids

    base = prepare_base_model(plan.base_model)
    tokenizer = load_tokenizer(base)
    rows = read_rows(data)["train"]
    return len(training_tokens(rows, data, tokenizer, base, plan.sequence_length, stop_ids(tokenizer)))


def read_batches(plan: Plan, data: pathlib.Path) -> int:
    """The rows of the first steps, packed as for training."""
    import torch

    from overseer_training.data.token_file import map_tokens
    from overseer_training.training.batches import Schedule
    from overseer_training.training.packing import pack_rows

    tokens = map_tokens(data / "tokens")
    schedule = Schedule(len(tokens), plan.effective_batch_size, 1, None, plan.seed)
    for step in range(min(STEPS, schedule.total_steps)):
        pack_rows(tokens, schedule.rows_of_step(step), (9, 3), torch.bfloat16, "cpu")
    return len(tokens)


STAGES: dict[str, Callable[[Plan, pathlib.Path], int]] = {
    "rows": build_rows,
    "tokens": make_tokens,
    "batches": read_batches,
}

if __name__ == "__main__":
    main()
