"""The bubblewrap sandbox: a fresh root, no network, one ordinary user, and limits on everything.

The fixture is unpacked into memory inside the sandbox, and what the command left is packed into a tar stream that
reaches the parent through a pipe: no file of the host is ever writable. A process namespace makes sure that nothing
outlives the run, and the parent stops reading at a deadline of its own. When we are root, bubblewrap itself runs as
`nobody`, because the kernel's process limit does not bind root.

Does not protect from: reading `/usr` of the host (its programs are what runs), many processes that take memory together
(up to `PROCESS_LIMIT` times `ADDRESS_SPACE_BYTES`; the kernel then ends the sandbox first), or bugs of the kernel.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import pathlib
import select
import shutil
import stat
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator

from overseer_training.errors import SandboxError
from overseer_training.evaluation.sandbox.base import Execution, FileState, Fixture
from overseer_training.evaluation.sandbox.emulated import write_emulators

TIMEOUT_SECONDS = 5  # chosen; a whole run takes 0.05 s to 0.1 s on a quiet machine
KILL_AFTER_SECONDS = 1  # chosen; for commands that ignore the first signal
OVERHEAD_SECONDS = 15  # chosen; unpacking and packing take 0.1 s on an idle machine
OUTPUT_LIMIT_BYTES = 256 * 1024
RESULT_LIMIT_BYTES = 128 * 1024 * 1024  # of the packed tree that comes back
ROOT_SIZE_BYTES = 32 * 1024 * 1024  # of each writable root
MEMBER_LIMIT = 20_000  # of the packed tree; the largest fixture of the corpus has some hundred
PROCESS_LIMIT = 96
ADDRESS_SPACE_BYTES = 1024 * 1024 * 1024  # of each process
NOBODY = 65534
WRITABLE_ROOTS = ("home", "etc", "var", "srv", "opt", "tmp")
_TIMED_OUT = b"124 1\n"  # what inner.sh would have said
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
        return _read_execution(self._start(fixture.archive, command, fixture.live, before))

    @functools.cache  # noqa: B019 (one sandbox lives as long as the process)
    def has_program(self, program: str) -> bool:
        # A model that repeats itself gives words longer than a file may be named, for which Path.exists raises.
        if os.path.exists(self._root / "emulated" / program):  # noqa: PTH110
            return True
        probe = subprocess.run(
            ["bash", "-c", 'type -t -- "$1"', "_", program],
            env={"PATH": "/usr/local/bin:/usr/bin:/usr/sbin:/usr/games:/bin:/sbin"},
            capture_output=True,
        )
        return probe.returncode == 0

    def _pack(self, name: str, script: str, base: pathlib.Path | None) -> pathlib.Path:
        result = self._start(str(base) if base else None, f"set -e\n{script}", "", ())
        execution = _read_execution(result)
        if execution.timed_out:
            raise SandboxError(f"fixture {name!r} took longer than {TIMEOUT_SECONDS} s to build")
        if execution.exit_code != 0:
            lines = execution.stderr.strip().splitlines() or ["no message"]
            raise SandboxError(f"fixture {name!r} failed to build (exit {execution.exit_code}): {lines[-1]}")
        digest = hashlib.sha256(f"{name}\0{script}".encode()).hexdigest()
        packed = self._root / f"{digest[:24]}.tar"
        try:
            packed.write_bytes(_without_result(result))
        except tarfile.TarError as error:
            raise SandboxError(f"fixture {name!r} is larger than {RESULT_LIMIT_BYTES >> 20} MiB: {error}") from error
        packed.chmod(0o644)
        return packed

    def _start(self, archive: str | None, command: str, live: str, before: tuple[str, ...]) -> bytes:
        runs = len(before) + 1 + bool(live)
        with tempfile.TemporaryDirectory(dir=self._root) as folder:
            inputs = pathlib.Path(folder)
            inputs.chmod(0o755)
            (inputs / "command").write_text(command + "\n", "utf-8", "surrogateescape")
            (inputs / "live").write_text(live + "\n", "utf-8")
            for number, earlier in enumerate(before):
                (inputs / f"before-{number:03d}").write_text(earlier + "\n", "utf-8", "surrogateescape")
            return self._run_bubblewrap(archive, inputs, runs * (TIMEOUT_SECONDS + KILL_AFTER_SECONDS))

    def _run_bubblewrap(self, archive: str | None, inputs: pathlib.Path, seconds: float) -> bytes:
        arguments = [*_ISOLATION, *_nested_namespaces(self._program), *_mounts()]
        arguments += ["--ro-bind", str(self._root / "emulated"), "/run/emulated"]
        arguments += ["--ro-bind", str(inputs), "/run/input", "--ro-bind", str(self._inner), "/run/inner.sh"]
        if archive is not None:
            arguments += ["--ro-bind", archive, "/run/fixture.tar"]
        arguments += ["--remount-ro", "/"]
        limits = (TIMEOUT_SECONDS, OUTPUT_LIMIT_BYTES, PROCESS_LIMIT, ADDRESS_SPACE_BYTES >> 10, ROOT_SIZE_BYTES >> 10)
        program = ("bash", "/run/inner.sh", *map(str, limits))
        # Arguments go through a file so that `ps` inside the sandbox stays readable.
        with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as argument_file:
            argument_file.write(b"".join(argument.encode() + b"\0" for argument in arguments))
            argument_file.seek(0)
            process = subprocess.Popen(
                [*_as_nobody(), self._program, "--args", str(argument_file.fileno()), *program],
                pass_fds=[argument_file.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd="/",
                env={},  # --clearenv does not reach the memory that /proc/PID/environ shows
            )
            try:
                assert process.stdout is not None
                result = _read_until(process.stdout.fileno(), time.monotonic() + seconds + OVERHEAD_SECONDS)
            finally:
                process.kill()
                process.stdout.close() if process.stdout else None
                process.wait()
            errors.seek(0)
            problem = errors.read(2000).decode(errors="replace").strip()
        if not result and problem:
            raise SandboxError(f"bubblewrap could not start a command: {problem}")
        return result


_ENVIRONMENT = {
    "PATH": "/run/emulated:/usr/local/bin:/usr/bin:/usr/sbin:/usr/games",
    "HOME": "/home/user",
    "USER": "user",
    "LOGNAME": "user",
    "SHELL": "/bin/bash",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "TERM": "dumb",
    # The same commit gets the same hash in every run.
    "GIT_AUTHOR_DATE": "2026-11-22T12:00:00Z",
    "GIT_COMMITTER_DATE": "2026-11-22T12:00:00Z",
}
_ISOLATION = (
    *(
        "--unshare-user",
        "--unshare-all",
        "--as-pid-1",
        "--die-with-parent",
        "--new-session",
        "--hostname",
        "workstation",
        "--clearenv",
    ),
    *("--uid", "1000", "--gid", "1000"),
    # For packing and unpacking files of any mode; commands run after all privileges were dropped.
    *("--cap-add", "CAP_DAC_OVERRIDE", "--cap-add", "CAP_DAC_READ_SEARCH", "--cap-add", "CAP_FOWNER"),
    *("--cap-add", "CAP_SETPCAP"),
    *(part for name, value in sorted(_ENVIRONMENT.items()) for part in ("--setenv", name, value)),
)


def _as_nobody() -> tuple[str, ...]:
    """What starts a program as `nobody` when we are root.

    A program of its own does it, and not Python: then Python need not copy the page tables of a process that holds a model.
    """
    if os.geteuid() != 0:
        return ()
    return ("setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups")


@functools.cache
def _nested_namespaces(program: str) -> tuple[str, ...]:
    """Options that forbid user namespaces inside, where a command could mount file systems without limits.

    bubblewrap knows them since 0.8.
    """
    wanted = ("--unshare-user", "--disable-userns")
    probe = subprocess.run([program, *wanted, "--ro-bind", "/", "/", "true"], capture_output=True, env={})
    return wanted[1:] if probe.returncode == 0 else ()


@functools.cache
def _mounts() -> tuple[str, ...]:
    mounts = ["--ro-bind", "/usr", "/usr", "--proc", "/proc", "--dev", "/dev"]
    # Without a size of its own, /dev/shm could take half of the host's memory.
    mounts += ["--size", str(ROOT_SIZE_BYTES), "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]
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


def _read_until(pipe: int, deadline: float) -> bytes:
    """What arrives through `pipe` until it ends, `RESULT_LIMIT_BYTES` came, or `deadline` (of the monotonic clock) passed."""
    chunks: list[bytes] = []
    size = 0
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    while size < RESULT_LIMIT_BYTES:
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return _TIMED_OUT
        chunk = os.read(pipe, 1 << 20)
        if not chunk:
            break
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks)


def _members(archive: bytes) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Members of the result with their contents; a stream cut at a limit gives those that are whole."""
    if not archive:
        return
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            for number, info in enumerate(tar):
                if number >= MEMBER_LIMIT:
                    return
                handle = tar.extractfile(info) if info.isreg() else None
                content = handle.read() if handle else b""
                if len(content) == (info.size if info.isreg() else 0):
                    yield info, content
    except tarfile.ReadError:
        return  # the whole members came before


def _read_execution(result: bytes) -> Execution:
    # An empty result: everything in the sandbox was killed, its packer included.
    status, _, archive = result.partition(b"\n")
    exit_code, timed_out = (int(word) for word in status.split() or (b"125", b"0"))
    files: dict[str, FileState] = {}
    contents: dict[str, str] = {}
    for info, content in _members(archive):
        name = info.name.rstrip("/")
        if name.startswith("run/result/"):
            contents[name.removeprefix("run/result/")] = content[:OUTPUT_LIMIT_BYTES].decode(errors="replace")
        elif name != "run/result":
            files[name] = _file_state(info, content, files)
    calls = (tuple(line.split("\x1f")) for line in contents.get("calls", "").split("\n"))
    return Execution(
        exit_code=exit_code,
        stdout=contents.get("stdout", ""),
        stderr=contents.get("stderr", ""),
        files=files,
        # Anything can be appended to the notes; what no emulated program wrote is no call.
        calls=tuple(call for call in calls if len(call) >= 2 and call[0] in ("ok", "refused")),
        processes=tuple(sorted(line for line in contents.get("processes", "").split("\n") if line)),
        timed_out=bool(timed_out),
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


def _without_result(result: bytes) -> bytes:
    """The tree alone, as an archive to unpack for later runs."""
    archive = result.partition(b"\n")[2]
    packed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as source,
        tarfile.open(fileobj=packed, mode="w:", format=tarfile.GNU_FORMAT) as target,
    ):
        for info in source:
            if not info.name.startswith("run/"):
                target.addfile(info, source.extractfile(info) if info.isreg() else None)
    return packed.getvalue()
