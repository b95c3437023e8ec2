"""The bubblewrap sandbox: a fresh root, no network, one ordinary user, and limits on everything.

The fixture is unpacked into memory inside the sandbox, and what the command left is packed into a tar stream that
reaches the parent through a pipe: no file of the host is ever writable. A process namespace makes sure that nothing
outlives the run. When we are root, bubblewrap itself runs as `nobody`, because the kernel's process limit does not
bind root.

Does not protect from: reading `/usr` of the host (its programs are what runs), or bugs of the kernel.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import pathlib
import resource
import shutil
import stat
import subprocess
import tarfile
import tempfile

from overseer_training.errors import SandboxError
from overseer_training.evaluation.sandbox.base import Execution, FileState, Fixture
from overseer_training.evaluation.sandbox.emulated import EMULATED_PROGRAMS, write_emulators

TIMEOUT_SECONDS = 5  # chosen; a command of the corpus takes about 0.02 s
OUTPUT_LIMIT_BYTES = 256 * 1024
RESULT_LIMIT_BYTES = 128 * 1024 * 1024  # of the packed tree that comes back
ROOT_SIZE_BYTES = 32 * 1024 * 1024  # of each writable root
PROCESS_LIMIT = 96
ADDRESS_SPACE_BYTES = 1024 * 1024 * 1024  # of each process
NOBODY = 65534
WRITABLE_ROOTS = ("home", "etc", "var", "srv", "opt", "tmp")
HERE = pathlib.Path(__file__).parent


class BubblewrapSandbox:
    """Runs commands under bubblewrap; see `base.Sandbox` for the promises."""

    name = "bubblewrap"

    def __init__(self) -> None:
        program = shutil.which("bwrap")
        if program is None:
            raise SandboxError("bubblewrap is not installed; install it with: sudo apt install bubblewrap")
        self._program = program
        self._folder = tempfile.TemporaryDirectory(prefix="overseer-sandbox-")
        self._root = pathlib.Path(self._folder.name)
        self._root.chmod(0o755)  # `nobody` reads it
        write_emulators(self._root / "emulated")
        self._inner = self._root / "inner.sh"
        shutil.copyfile(HERE / "inner.sh", self._inner)
        self._inner.chmod(0o755)
        self._machine = self._pack("machine", (HERE / "machine.sh").read_text(), base=None)

    def build_fixture(self, name: str, script: str, live: str = "") -> Fixture:
        return Fixture(name, str(self._pack(name, script, base=self._machine)), live)

    def run(self, fixture: Fixture, command: str, *, before: tuple[str, ...] = ()) -> Execution:
        result, _ = self._start(fixture.archive, command, fixture.live, before)
        return _read_execution(result)

    @functools.cache  # noqa: B019 (one sandbox lives as long as the process)
    def has_program(self, program: str) -> bool:
        if program in EMULATED_PROGRAMS:
            return True
        probe = subprocess.run(
            ["bash", "-c", 'type -t -- "$1"', "_", program],
            env={"PATH": "/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin"},
            capture_output=True,
        )
        return probe.returncode == 0

    def _pack(self, name: str, script: str, base: pathlib.Path | None) -> pathlib.Path:
        result, problem = self._start(str(base) if base else None, f"set -e\n{script}", "", ())
        execution = _read_execution(result)
        if execution.exit_code != 0:
            lines = execution.stderr.strip().splitlines() or [problem or "no message"]
            raise SandboxError(f"fixture {name!r} failed to build (exit {execution.exit_code}): {lines[-1]}")
        digest = hashlib.sha256(f"{name}\0{script}".encode()).hexdigest()
        packed = self._root / f"{digest[:24]}.tar"
        packed.write_bytes(_without_result(result))
        packed.chmod(0o644)
        return packed

    def _start(self, archive: str | None, command: str, live: str, before: tuple[str, ...]) -> tuple[bytes, str]:
        with tempfile.TemporaryDirectory(dir=self._root) as folder:
            inputs = pathlib.Path(folder)
            inputs.chmod(0o755)
            (inputs / "command").write_text(command + "\n", errors="surrogateescape")
            (inputs / "live").write_text(live + "\n")
            for number, earlier in enumerate(before):
                (inputs / f"before-{number:03d}").write_text(earlier + "\n", errors="surrogateescape")
            return self._run_bubblewrap(archive, inputs)

    def _run_bubblewrap(self, archive: str | None, inputs: pathlib.Path) -> tuple[bytes, str]:
        arguments = [*_ISOLATION, *_mounts()]
        arguments += ["--ro-bind", str(self._root / "emulated"), "/run/emulated"]
        arguments += ["--ro-bind", str(inputs), "/run/input", "--ro-bind", str(self._inner), "/run/inner.sh"]
        if archive is not None:
            arguments += ["--ro-bind", archive, "/run/fixture.tar"]
        arguments += ["--remount-ro", "/"]
        program = ("bash", "/run/inner.sh", str(TIMEOUT_SECONDS), str(OUTPUT_LIMIT_BYTES))
        # Arguments go through a file so that `ps` inside the sandbox stays readable.
        with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as argument_file:
            argument_file.write(b"".join(argument.encode() + b"\0" for argument in arguments))
            argument_file.seek(0)
            process = subprocess.Popen(
                [self._program, "--args", str(argument_file.fileno()), *program],
                pass_fds=[argument_file.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                preexec_fn=_limit_resources,
                cwd="/",
                user=NOBODY if os.geteuid() == 0 else None,
                group=NOBODY if os.geteuid() == 0 else None,
                extra_groups=[] if os.geteuid() == 0 else None,
            )
            try:
                assert process.stdout is not None
                result = process.stdout.read(RESULT_LIMIT_BYTES)
            finally:
                process.kill()
                process.stdout.close() if process.stdout else None
                process.wait()
            errors.seek(0)
            problem = errors.read(2000).decode(errors="replace").strip()
        if not result and problem:
            raise SandboxError(f"bubblewrap could not start a command: {problem}")
        return result, problem


_ISOLATION = (
    *("--unshare-all", "--die-with-parent", "--new-session", "--hostname", "workstation", "--clearenv"),
    *("--uid", "1000", "--gid", "1000"),
    # For packing and unpacking files of any mode; commands run after all privileges were dropped.
    *("--cap-add", "CAP_DAC_OVERRIDE", "--cap-add", "CAP_DAC_READ_SEARCH", "--cap-add", "CAP_FOWNER"),
    *("--cap-add", "CAP_SETPCAP"),
    *("--setenv", "PATH", "/run/emulated:/usr/local/bin:/usr/bin:/usr/sbin:/usr/games"),
    *("--setenv", "HOME", "/home/user", "--setenv", "USER", "user", "--setenv", "LOGNAME", "user"),
    *(
        "--setenv",
        "LANG",
        "C.UTF-8",
        "--setenv",
        "TZ",
        "UTC",
        "--setenv",
        "TERM",
        "dumb",
        "--setenv",
        "SHELL",
        "/bin/bash",
    ),
)


@functools.cache
def _mounts() -> tuple[str, ...]:
    mounts = ["--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        path = pathlib.Path("/", name)
        if path.is_symlink():
            mounts += ["--symlink", f"usr/{name}", f"/{name}"]
        elif path.is_dir():
            mounts += ["--ro-bind", str(path), str(path)]
    for root in (*WRITABLE_ROOTS, "run"):
        mounts += ["--size", str(ROOT_SIZE_BYTES), "--tmpfs", f"/{root}"]
    mounts += ["--dir", "/home/user"]
    for shared in ("/etc/alternatives", "/etc/ld.so.cache", "/etc/magic", "/etc/java", "/etc/perl"):
        mounts += ["--ro-bind-try", shared, shared]
    return tuple(mounts)


def _limit_resources() -> None:
    resource.setrlimit(resource.RLIMIT_NPROC, (PROCESS_LIMIT, PROCESS_LIMIT))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, ADDRESS_SPACE_BYTES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOT_SIZE_BYTES, ROOT_SIZE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _members(archive: bytes) -> list[tuple[tarfile.TarInfo, bytes]]:
    """Members of the result with their contents; a stream cut at the size limit gives those that are whole."""
    members = []
    try:
        if not archive:  # the command killed everything in the sandbox, its packer included
            return []
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            for info in tar:
                handle = tar.extractfile(info) if info.isreg() else None
                members.append((info, handle.read() if handle else b""))
    except tarfile.ReadError as error:
        if not members:
            raise SandboxError(f"the sandbox returned an unreadable result: {error}") from error
    return members


def _read_execution(archive: bytes) -> Execution:
    files: dict[str, FileState] = {}
    contents: dict[str, bytes] = {}
    for info, content in _members(archive):
        name = info.name.rstrip("/")
        if name.startswith("run/result/"):
            contents[name.removeprefix("run/result/")] = content
        elif name != "run/result":
            files[name] = _file_state(info, content, files)

    def text(name: str) -> str:
        return contents.get(name, b"").decode(errors="replace")

    exit_code = int(text("exit_code") or 125)
    calls = tuple(tuple(line.split("\x1f")) for line in text("calls").splitlines())
    return Execution(
        exit_code=exit_code,
        stdout=text("stdout"),
        stderr=text("stderr"),
        files=files,
        calls=calls,
        processes=tuple(sorted(text("processes").splitlines())),
        timed_out=exit_code in (124, 137),
    )


def _file_state(info: tarfile.TarInfo, content: bytes, earlier: dict[str, FileState]) -> FileState:
    mode = stat.S_IMODE(info.mode)
    if info.isreg():
        return FileState("file", mode, hashlib.sha256(content).hexdigest())
    if info.islnk():  # a hard link has its first name's content
        first = earlier.get(info.linkname.rstrip("/"))
        return first if first is not None else FileState("file", mode, "")
    if info.issym():
        return FileState("link", 0o777, info.linkname)
    return FileState("dir" if info.isdir() else "other", mode, "")


def _without_result(archive: bytes) -> bytes:
    """The tree alone, as an archive to unpack for later runs."""
    packed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as source,
        tarfile.open(fileobj=packed, mode="w:", format=tarfile.GNU_FORMAT) as target,
    ):
        for info in source:
            if not info.name.startswith("run/"):
                target.addfile(info, source.extractfile(info) if info.isreg() else None)
    return packed.getvalue()
