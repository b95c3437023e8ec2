"""Installs the pinned dependencies into the environment of the Python that runs this. Called by the Makefile.

On Linux the package index's plain torch brings several GB of CUDA libraries, so a machine without an NVIDIA GPU gets the CPU build:
first from the indexes that pip is configured with, then from PyTorch's own index of CPU builds.
"""

from __future__ import annotations

import pathlib
import platform
import shutil
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[1]
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]


def main(arguments: list[str]) -> int:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = list(project["dependencies"])
    for extra in project["optional-dependencies"]:
        if f"--{extra}" in arguments:
            requirements += project["optional-dependencies"][extra]
    torch = next(requirement for requirement in requirements if requirement.startswith("torch=="))
    requirements.remove(torch)
    if (
        not install_torch(torch)
        or pip(*requirements)
        or pip("--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    ):
        print(
            "the dependencies could not be installed; check the network and disk space, then run the same command again",
            file=sys.stderr,
        )
        return 1
    return 0


def install_torch(requirement: str) -> bool:
    """Whether torch is installed, in the build for this machine."""
    needs_cpu_build = (
        platform.system() == "Linux" and platform.machine() == "x86_64" and shutil.which("nvidia-smi") is None
    )
    if not needs_cpu_build:
        return pip(requirement) == 0
    if pip(f"{requirement}+cpu", quiet=True) == 0:
        return True
    return pip(f"{requirement}+cpu", "--extra-index-url", TORCH_CPU_INDEX) == 0


def pip(*arguments: str, quiet: bool = False) -> int:
    """pip's exit code; its errors are shown unless `quiet`."""
    result = subprocess.run([*PIP, *arguments], capture_output=True, text=True)
    if result.returncode != 0 and not quiet:
        print(result.stderr.strip(), file=sys.stderr)
    return result.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
