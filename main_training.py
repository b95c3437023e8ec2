#!/usr/bin/env python3
"""Trains your private system-management assistant: flags become a plan, the plan runs through the pipeline."""

import sys

if sys.version_info < (3, 11):
    sys.exit(
        f"Overseer Training needs Python 3.11 or newer; this is {sys.version.split()[0]}. Install one, then run: make train"
    )

try:
    from overseer_training.cli import train_main
except ModuleNotFoundError as error:
    sys.exit(
        f"{error.name} is not installed. Run `make train` (it sets everything up), or `make setup` and then .venv/bin/python main_training.py"
    )

if __name__ == "__main__":
    sys.exit(train_main(sys.argv[1:]))
