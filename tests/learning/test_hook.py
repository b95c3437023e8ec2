"""The hooks in real shells: what they record, that they break nothing, and that they go without a trace."""

from __future__ import annotations

import concurrent.futures
import fcntl
import os
import pathlib
import pty
import select
import shutil
import subprocess
import termios
import threading
import time

import pytest

from overseer_training.errors import DataError, UsageError
from overseer_training.learning import spool
from overseer_training.learning.consent import write_consent
from overseer_training.learning.hook import install_hook, remove_hook, start_up_file
from overseer_training.learning.spool import collect
from overseer_training.learning.store import Store

INSTALLED = [shell for shell in ("bash", "zsh", "fish") if shutil.which(shell)]
RECORDED = (("true one", 0), ("false two", 1), ("no-such-program three", 127))


@pytest.fixture
def home(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    made = tmp_path / "home"
    made.mkdir()
    for name in ("ZDOTDIR", "XDG_CONFIG_HOME", "OVERSEER_SESSION", "PROMPT_COMMAND", "HISTCONTROL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(made))
    return made


def own_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # without it the shells have no job control, and fish does not start


def run_in(shell: str, *lines: str) -> str:
    """What the terminal shows when `lines` are typed into an interactive `shell`, each when the one before is done."""
    master, slave = pty.openpty()
    command = {"bash": ["bash", "-i"], "zsh": ["zsh", "-i"], "fish": ["fish", "-i"]}[shell]
    process = subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=own_terminal
    )
    os.close(slave)
    shown: list[bytes] = []

    def read() -> None:
        while select.select([master], [], [], 20)[0]:
            try:
                shown.append(os.read(master, 65536))
            except OSError:
                return

    reader = threading.Thread(target=read)
    reader.start()
    for number, line in enumerate((*lines, "")):
        marker = f"done{number}x"
        os.write(master, (f"{line}\r" if line else "").encode())
        os.write(master, f"echo do''ne{number}x\r".encode())
        until = time.monotonic() + 20
        while f"{marker}".encode() not in b"".join(shown) and time.monotonic() < until:
            time.sleep(0.02)
    os.write(master, b"exit\r")
    process.wait(timeout=30)
    reader.join(timeout=30)
    os.close(master)
    return b"".join(shown).decode(errors="replace")


def recorded(store: Store) -> list[tuple[str, int | None]]:
    collect(store)
    return [(i.command, i.exit_code) for i in store.list() if not i.command.startswith(("echo do", "exit"))]


@pytest.mark.parametrize("shell", INSTALLED)
def test_commands_are_recorded_with_exit_code_directory_and_time(shell: str, home: pathlib.Path, store: Store) -> None:
    install_hook(shell, store.folder)
    started = time.time()
    (home / "a dir").mkdir()
    shown = run_in(shell, f"cd '{home}/a dir'", *(line for line, _ in RECORDED), "echo 'it''s; a | line' >/dev/null")
    found = recorded(store)
    assert found[1:] == [*RECORDED, ("echo 'it''s; a | line' >/dev/null", 0)], shown
    newest = next(i for i in store.list() if i.command == "false two")
    assert (newest.directory, newest.shell) == (f"{home}/a dir", shell)
    assert started - 2 <= newest.time <= time.time() + 1
    assert len({interaction.session for interaction in store.list()}) == 1
    assert collect(store) == 0


@pytest.mark.parametrize("shell", INSTALLED)
def test_the_time_is_when_a_command_began(shell: str, home: pathlib.Path, store: Store) -> None:
    install_hook(shell, store.folder)
    run_in(shell, "sleep 3", "true after")
    collect(store)
    times = {i.command: i.time for i in store.list()}
    assert times["true after"] - times["sleep 3"] >= 2  # whole seconds


@pytest.mark.parametrize("shell", INSTALLED)
def test_what_begins_with_a_space_is_not_recorded(shell: str, home: pathlib.Path, store: Store) -> None:
    install_hook(shell, store.folder)
    run_in(shell, "true one", " true hidden", "true two")
    assert recorded(store) == [("true one", 0), ("true two", 0)]


@pytest.mark.parametrize("shell", INSTALLED)
@pytest.mark.parametrize("harm", ["no spool", "no folder", "full", "read-only", "off"])
def test_the_shell_goes_on_whatever_happens_to_the_spool(
    shell: str, harm: str, home: pathlib.Path, store: Store
) -> None:
    install_hook(shell, store.folder)
    spool = store.folder / "spool"
    if harm == "no spool":
        shutil.rmtree(spool)
    elif harm == "no folder":
        store.close()
        shutil.rmtree(store.folder)
    elif harm == "full":  # every session's file is a device that is always full
        shutil.rmtree(spool)
        (store.folder / "full").mkdir()
        spool.symlink_to(store.folder / "full")
        script = store.folder / f"hook.{shell}"
        script.write_text(script.read_text().replace('"$__overseer_spool/$__overseer_session"', "/dev/full").replace("$__overseer_spool/$__overseer_session", "/dev/full"))  # fmt: skip
        assert "/dev/full" in script.read_text()
    elif harm == "read-only":
        shutil.rmtree(spool)
        spool.write_text("a file, not a folder")
    else:
        write_consent(store.folder, "paused")
    code = "$status" if shell == "fish" else "$?"
    shown = run_in(shell, "false two", f"false; echo code={code}")
    assert "code=1" in shown
    assert not [
        word for word in ("overseer", "rror:", "No such file", "space left", "denied", "warning") if word in shown
    ], shown
    assert not (spool.is_dir() and any(path.stat().st_size for path in spool.iterdir()))


@pytest.mark.parametrize("shell", [shell for shell in INSTALLED if shell != "fish"])
def test_the_exit_code_reaches_the_owners_own_prompt(shell: str, home: pathlib.Path, store: Store) -> None:
    own = "PROMPT_COMMAND='echo own=$?'" if shell == "bash" else "precmd() { echo own=$? }"
    start_up_file(shell).write_text(f"{own}\n")
    install_hook(shell, store.folder)
    assert "own=1" in run_in(shell, "false two")
    assert ("false two", 1) in recorded(store)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("content", [None, b"", b"alias a=b\n", b"no newline at the end", b"\xff\xfe \r\n\r\n"])
def test_removal_gives_back_every_byte(shell: str, content: bytes | None, home: pathlib.Path, store: Store) -> None:
    path = start_up_file(shell)
    if content is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o600)
    install_hook(shell, store.folder)
    once = path.read_bytes()
    install_hook(shell, store.folder)
    assert path.read_bytes().replace(b"# this file was made for the hook\n", b"") == once.replace(
        b"# this file was made for the hook\n", b""
    )
    assert remove_hook(shell, store.folder)
    if content is None:
        assert not path.exists()
    else:
        assert path.read_bytes() == content
        assert path.stat().st_mode & 0o777 == 0o600
    assert not remove_hook(shell, store.folder)


def test_lines_that_came_after_the_block_stay(home: pathlib.Path, store: Store) -> None:
    path = start_up_file("bash")
    path.write_text("before\n")
    install_hook("bash", store.folder)
    path.write_text(path.read_text() + "after\n")
    install_hook("bash", store.folder)
    remove_hook("bash", store.folder)
    assert path.read_text() == "before\nafter\n"


def test_a_linked_start_up_file_stays_a_link(home: pathlib.Path, store: Store) -> None:
    (home / "dotfiles").mkdir()
    (home / "dotfiles" / "bashrc").write_text("x\n")
    (home / ".bashrc").symlink_to("dotfiles/bashrc")
    install_hook("bash", store.folder)
    assert (home / ".bashrc").is_symlink()
    assert "overseer" in (home / "dotfiles" / "bashrc").read_text()


def test_a_block_without_end_is_not_guessed_at(home: pathlib.Path, store: Store) -> None:
    install_hook("bash", store.folder)
    path = start_up_file("bash")
    path.write_text(path.read_text().replace("# <<< overseer <<<", ""))
    with pytest.raises(DataError, match="take it out by hand"):
        remove_hook("bash", store.folder)


def test_a_shell_without_hook_is_refused(store: Store) -> None:
    with pytest.raises(UsageError, match="bash, zsh, fish"):
        install_hook("tcsh", store.folder)


def test_a_record_that_was_cut_off_is_left_out(store: Store) -> None:
    spool = store.folder / "spool"
    spool.mkdir()
    whole = "\x1ebash\x1fs\x1f\x1f0\x1f/\x1f 7 1700000000 ls -la\n\x1f"
    (spool / "s").write_text("half\x1f" + whole + whole.replace(" 7 ", " 8 ").replace("ls -la\n\x1f", "rm -rf buil"))
    assert collect(store) == 1
    assert [interaction.command for interaction in store.list()] == ["ls -la"]
    assert list(spool.iterdir()) == []


def test_what_a_killed_collector_left_is_brought_in_once(store: Store) -> None:
    spool = store.folder / "spool"
    spool.mkdir()
    record = "\x1ebash\x1fs\x1f\x1f0\x1f/\x1f {} 1700000000 ls {}\n\x1f"
    (spool / "s").write_text(record.format(1, 1))
    assert collect(store) == 1
    (spool / "s.taken").write_text(record.format(1, 1) + record.format(2, 2))  # stored, but not deleted
    (spool / "s").write_text(record.format(3, 3))
    assert collect(store) == 2
    assert [interaction.command for interaction in store.list()] == ["ls 1", "ls 2", "ls 3"]


def test_two_commands_at_once_bring_each_record_in_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Was a traceback: each found the same taken file, and one deleted it while the other read it."""
    folder = store.folder / "spool"
    folder.mkdir()
    (folder / "s").write_text("\x1ebash\x1fs\x1f\x1f0\x1f/\x1f 1 1700000000 ls\n\x1f")
    keep, reading, other_is_done = spool._keep, threading.Event(), threading.Event()

    def keep_slowly(into: Store, path: pathlib.Path) -> int:
        count = keep(into, path)
        reading.set()
        other_is_done.wait(0.5)  # it has to wait for this one, which therefore goes on alone
        return count

    monkeypatch.setattr(spool, "_keep", keep_slowly)
    with concurrent.futures.ThreadPoolExecutor(2) as pool, Store(store.folder, bytes(range(32))) as second:
        first_count = pool.submit(collect, store)
        assert reading.wait(10)
        second_count = pool.submit(collect, second)
        second_count.add_done_callback(lambda _: other_is_done.set())
        assert (first_count.result(20), second_count.result(20)) == (1, 0)
    assert [found.command for found in store.list()] == ["ls"]
    assert list(folder.iterdir()) == []


def test_without_consent_the_spool_is_deleted(store: Store) -> None:
    spool = store.folder / "spool"
    spool.mkdir()
    (spool / "s").write_text("\x1ebash\x1fs\x1f\x1f0\x1f/\x1f 1 1700000000 ls\n\x1f")
    write_consent(store.folder, "off")
    assert collect(store) == 0
    assert list(spool.iterdir()) == []
