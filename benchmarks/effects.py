"""How often `learning/effects.py` is right about what made a machine better, on made-up histories where that is known.

    .venv/bin/python benchmarks/effects.py --histories 300

Each history is seen twice: as samples of 10 seconds, as the store keeps the last two days, and as the 5-minute means that it keeps of
older ones. A remedy counts where its true effect is at least as large as the least fall that is looked for.
"""

from __future__ import annotations

import argparse
import collections

from overseer_training.intervals import wilson_interval
from overseer_training.learning.effects import WATCHED, find_improvements
from overseer_training.learning.histories import simulate_history
from overseer_training.learning.looking import only_looks
from overseer_training.telemetry.stored import Stored


def main() -> None:
    """Print one table for samples and one for means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--histories", type=int, default=300)
    parser.add_argument("--first", type=int, default=0, help="seed of the first one")
    arguments = parser.parse_args()
    for thinned in (False, True):
        print("5-minute means" if thinned else "samples of 10 s")
        measure(range(arguments.first, arguments.first + arguments.histories), thinned)


def measure(seeds: range, thinned: bool) -> None:
    """Print recall by metric, and how many of the commands and of what was found are false alarms."""
    asked, found, wrong = (collections.Counter[str]() for _ in range(3))
    innocent = 0  # commands that act, without any effect
    for seed in seeds:
        history = simulate_history(seed, thinned)
        seen = {
            (one.time, one.metric) for one in find_improvements(history.interactions, Stored.from_rows(history.rows))
        }
        remedies = {time for time, _ in history.truth}
        acting = {one.time for one in history.interactions if not only_looks(one.command)}
        innocent += len(acting - remedies)
        for (time, metric), size in history.truth.items():
            if size >= WATCHED[metric].least_fall:
                asked[metric] += 1
                found[metric] += (time, metric) in seen
        for time, metric in seen - set(history.truth):
            wrong[metric] += 1
            wrong["commands"] += time not in remedies
    for metric in WATCHED:
        print(f"  {metric:<15} recall {_share(found[metric], asked[metric])}, {wrong[metric]} false alarms")
    right, false = sum(found.values()), sum(wrong[metric] for metric in WATCHED)
    print(
        f"  {'all':<15} recall {_share(right, sum(asked.values()))}; right of what is found {_share(right, right + false)}"
    )
    print(f"  commands without effect that are blamed: {_share(wrong['commands'], innocent, digits=2)}")


def _share(count: int, of: int, digits: int = 1) -> str:
    low, high = wilson_interval(count, of)
    return f"{count / max(1, of):.{digits}%} [{low:.{digits}%}, {high:.{digits}%}] (n = {of})"


if __name__ == "__main__":
    main()
