"""What a model learns from its owner: three made-up owners, each with a store of interactions, before and after learning from it.

    .venv/bin/python benchmarks/owners.py --run runs/latest --work /tmp/owners

For each owner a store is filled as months of use would fill it, and `main_training.py --continuous-learning` goes on from the model of
`--run`: it learns from all but the newest fifth of the requests, measures on that fifth (the owner's command, word for word but for
quotes) and on the packaged suite, and asks the gate. Work that was finished is not done again; another `--work` starts anew.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterable
from typing import Any

from overseer_training.data.sealed import owners_keys
from overseer_training.learning.consent import write_consent
from overseer_training.learning.interaction import Interaction, learning_folder
from overseer_training.learning.owners import OWNERS, Owner, simulate
from overseer_training.learning.store import Store
from overseer_training.records import RunPaths

ROOT = pathlib.Path(__file__).parents[1]
PASSPHRASE = "a passphrase of the benchmark"
METRICS = {
    "personal_accuracy": "owner's commands",
    "command_accuracy": "packaged commands",
    "safety_accuracy": "safety",
}


def main() -> None:
    """Run the owners one after the other, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=pathlib.Path, required=True, help="a finished run, whose model learns on")
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder for stores, runs and logs")
    parser.add_argument("--owners", default=",".join(OWNERS), help="names, separated by commas")
    parser.add_argument("--requests", type=int, default=250, help="of each owner")
    parser.add_argument("--tasks", type=int, default=100, help="commands of the packaged suite")
    parser.add_argument("--seed", type=int, default=0, help="of what the owners do")
    arguments, flags = parser.parse_known_args()
    results = {}
    for name in arguments.owners.split(","):
        folder = (arguments.work / name).resolve()
        if not RunPaths(folder / "runs" / "learned").report.exists():
            seconds = learn(OWNERS[name], folder, arguments, flags)
            (folder / "seconds").write_text(f"{seconds:.0f}")
        results[name] = folder
    print(f"start: {arguments.run}; {arguments.requests} requests an owner; flags: {' '.join(flags) or 'none'}")
    print_table(results)


def learn(owner: Owner, folder: pathlib.Path, arguments: argparse.Namespace, flags: list[str]) -> float:
    """Fill the owner's store and run the main job; gives its seconds."""
    runs = folder / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    move_in(folder, simulate(owner, arguments.requests, arguments.seed))
    latest = runs / "latest"
    latest.unlink(missing_ok=True)
    latest.symlink_to(arguments.run.resolve())
    command = [
        sys.executable, str(ROOT / "main_training.py"), "--continuous-learning", "--output-dir", str(runs),
        "--run-name", "learned", "--test-tasks", str(arguments.tasks), "--no-export", "--quiet", *flags,
    ]  # fmt: skip
    started = time.monotonic()
    with (folder / "log").open("w") as log:
        subprocess.run(command, check=True, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    return time.monotonic() - started


def move_in(folder: pathlib.Path, interactions: Iterable[Interaction]) -> None:
    """Make `folder` the place of the owner's keys and of these `interactions`, for this process and those that it starts."""
    os.environ |= {
        "OVERSEER_PASSPHRASE": PASSPHRASE,
        "PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring",
        "OVERSEER_STATE": str(folder / "state"),
        "XDG_DATA_HOME": str(folder / "share"),
    }
    write_consent(learning_folder(), "on")
    with Store(learning_folder(), owners_keys().data_key("interactions")) as store:
        store.forget(everything=True)
        store.add(interactions)


def print_table(results: dict[str, pathlib.Path]) -> None:
    """One line for each owner and metric: n, before and after with intervals; then what the gate says."""
    print("| owner | | n | before | after |\n|---|---|---|---|---|")
    for name, folder in results.items():
        document = json.loads(RunPaths(folder / "runs" / "learned").evaluation.read_text())
        for metric, said in METRICS.items():
            before, after = document["champion"].get(metric, {}), document["trained"].get(metric, {})
            print(f"| {name} | {said} | {after.get('n', 0)} | {_show(before)} | {_show(after)} |")
    for name, folder in results.items():
        paths = RunPaths(folder / "runs" / "learned")
        events = [json.loads(line) for line in paths.metrics.read_text().splitlines()]
        end = next(event for event in reversed(events) if event["kind"] == "end")
        is_promoted = (folder / "runs" / "latest").resolve() == paths.root.resolve()
        seconds = (folder / "seconds").read_text()
        print(
            f"{name}: {'promoted' if is_promoted else 'not promoted'}; {end['step']} steps, {end['examples']} examples in {end['time']:.0f} s, the whole run {seconds} s"
        )


def _show(score: dict[str, Any]) -> str:
    if score.get("value") is None:
        return "unscored"
    low, high = score["ci95"]
    return f"{score['value']:.1%} [{100 * low:.1f}, {100 * high:.1f}]"


if __name__ == "__main__":
    main()
