"""Fits the weights of the forecaster that prompts quote, on simulated training machines, and scores it on others.

    .venv/bin/python benchmarks/telemetry_combination.py [--questions 6000] [--write]

Takes half a minute. `--write` puts the weights into `overseer_training/telemetry/combination.json`.
"""

from __future__ import annotations

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from overseer_training.files import write_json
from overseer_training.telemetry.combination import PACKAGED, fit
from overseer_training.telemetry.examples import tasks
from overseer_training.telemetry.score import score_with_baselines

SEED = 42


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=6000)
    parser.add_argument("--write", action="store_true")
    flags = parser.parse_args()
    best = fit(tasks(flags.questions, SEED, "train"))
    asked = [task for task in tasks(1200, SEED, "test") if task["question"]["type"] in ("threshold", "forecast")]
    said = [best.answer(task["window"], task["question"]) for task in asked]
    for name, score in score_with_baselines(asked, said).items():
        assert score.value is not None and score.ci95 is not None
        others = ", ".join(f"{other} {value:.3f}" for other, value in score.baseline.items())
        print(f"{name} {score.value:.3f} [{score.ci95[0]:.3f}, {score.ci95[1]:.3f}], n = {score.n}; {others}")
    if flags.write:
        weights = {
            name: [round(float(value), 4) for value in getattr(best, name)] for name in ("threshold", "forecast")
        }
        write_json(
            PACKAGED, {"fitted_on": f"{flags.questions} questions, training machines, seed {SEED}", **weights}
        )


if __name__ == "__main__":
    main()
