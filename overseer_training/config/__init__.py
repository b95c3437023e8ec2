"""Flags and training_config.py become one frozen plan. See README.md; imports no torch."""
