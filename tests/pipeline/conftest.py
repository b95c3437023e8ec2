"""A place to train in, and the main job as a person starts it, with a model small enough to train in seconds."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SMALL = [
    *("--model-type", "custom", "--cpu-only", "--sequence-length", "256", "--augmented-copies", "0", "--composed-rows", "500", "--prediction-rows", "40"),
    *("--ram-limit", "1.0"),
]  # fmt: skip
CONFIG = """
exec(open({original!r}).read())
custom_model.update(vocabulary_size=1000, hidden_size=32, intermediate_size=64, layers=2, attention_heads=2, key_value_heads=1)
"""


@dataclasses.dataclass(frozen=True)
class Workplace:
    """A folder with a configuration, where commands run as a user would type them."""

    folder: pathlib.Path

    @property
    def runs(self) -> pathlib.Path:
        return self.folder / "runs"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """`main_training.py` with `arguments`."""
        command = [sys.executable, str(ROOT / "main_training.py"), "--output-dir", str(self.runs), *arguments]
        environment = {
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "OVERSEER_STATE": str(self.folder / "state"),
            "OVERSEER_CACHE": str(self.folder / "cache"),
        }
        return subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def start_small(self, *arguments: str) -> subprocess.Popen[str]:
        """The same with the small model."""
        return self.start(*SMALL, "--config", str(self.folder / "config.py"), *arguments)

    def train_small(self, *arguments: str) -> tuple[int, str, str]:
        """(exit code, output, errors) of the small job at its end."""
        return self.finish(self.start_small(*arguments))

    @staticmethod
    def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
        output, errors = process.communicate(timeout=600)
        return process.returncode, output, errors

    def overseer(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The `overseer` command."""
        command = [sys.executable, "-m", "overseer_training.cli", *arguments]
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "HF_HUB_OFFLINE": "1",
            "OVERSEER_STATE": str(self.folder / "state"),
        }
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "config.py").write_text(CONFIG.format(original=str(ROOT / "training_config.py")))
    return Workplace(folder)
