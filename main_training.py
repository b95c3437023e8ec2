#!/usr/bin/env python3
"""Trains your private system-management assistant: flags become a plan, the plan runs through the pipeline."""

import sys

if sys.version_info < (3, 11):
    sys.exit(
        f"Overseer Training needs Python 3.11 or newer; this is {sys.version.split()[0]}. Install one, then run: make train"
    )

from overseer_training.cli import train_main

if __name__ == "__main__":
    sys.exit(train_main(sys.argv[1:]))
