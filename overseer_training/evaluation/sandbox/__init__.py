"""Runs untrusted commands beside a copy of a fixture and tells what they did. See README.md."""

from overseer_training.evaluation.sandbox.base import Execution, Fixture, Sandbox
from overseer_training.evaluation.sandbox.detect import find_sandbox

__all__ = ["Execution", "Fixture", "Sandbox", "find_sandbox"]
