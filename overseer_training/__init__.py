"""Overseer Training: turns a small open language model into a private system-management assistant."""

__version__ = "0.1.0"
