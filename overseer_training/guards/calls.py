"""What rules ask about a call: its options, its operands, and what kind of program it is."""

from __future__ import annotations

import re
from collections.abc import Iterator

from overseer_training.guards.shell import Call
from overseer_training.guards.words import Word

SHELLS = {"sh", "bash", "zsh", "dash", "ksh", "mksh", "fish", "ash", "csh", "tcsh", "rbash", "pwsh"}
INTERPRETERS = {
    *("python", "pypy", "perl", "ruby", "irb", "node", "nodejs", "deno", "bun", "php", "lua", "luajit"),
    *("awk", "gawk", "mawk", "nawk", "tclsh", "wish", "Rscript", "julia", "guile", "osascript", "expect"),
}
EDITORS = {"vi", "vim", "nvim", "ex", "view", "vimdiff", "emacs", "ed"}
REMOVES = {"rm", "shred", "unlink", "srm", "wipe", "trash", "trash-put", "gio", "rimraf"}
DOWNLOADS = {"curl", "wget", "fetch", "lynx", "aria2c", "http", "https", "xh", "scp", "sftp", "ftp", "tftp", "GET"}
SENDS = {
    *("nc", "ncat", "netcat", "socat", "telnet", "curl", "wget", "ftp", "tftp", "mail", "mailx", "mutt", "sendmail"),
    *("ssh", "openssl", "http", "https", "xh", "dig", "nslookup", "gsocket"),
}
PRINTS = {"echo", "printf"}
READS_DEVICES = {
    *(
        "lsblk",
        "blkid",
        "smartctl",
        "udevadm",
        "dumpe2fs",
        "file",
        "stat",
        "ls",
        "mount",
        "umount",
        "findmnt",
        "df",
        "lsof",
    ),
    *(
        "eject",
        "fuser",
        "udisksctl",
        "swapon",
        "xfs_info",
        "test",
        "[",
        "[[",
        "echo",
        "printf",
        "iostat",
        "xxd",
        "hexdump",
    ),
    *(
        "head",
        "od",
        "pvs",
        "lvs",
        "vgs",
        "pvdisplay",
        "lvdisplay",
        "vgdisplay",
        "iotop",
        "ioping",
        "grep",
        "awk",
        "sed",
    ),
    *(
        "lsusb",
        "cat",
        "cd",
        "partprobe",
        "dmsetup",
        "zpool",
        "hddtemp",
        "isoinfo",
        "fdisk",
        "screen",
        "minicom",
        "e2label",
    ),
    *(
        "strings",
        "readlink",
        "realpath",
        "du",
        "find",
        "tail",
        "stty",
        "ip",
        "docker",
        "podman",
        "ffmpeg",
        "tee",
        "kpartx",
    ),
    *("tune2fs", "man", "git", "blockdev", "arecord", "v4l2-ctl", "wc", "sgdisk", "basename", "dirname", "diskutil"),
}


def is_interpreter(name: str) -> bool:
    """Whether a program runs another language, whatever the version in its name."""
    return name in INTERPRETERS or re.sub(r"[\d.]+$", "", name) in INTERPRETERS


def operands_of(call: Call) -> list[Word]:
    """Arguments that are no options; after `--` all of them."""
    operands: list[Word] = []
    for position, word in enumerate(call.arguments):
        if word.text == "--":
            return [*operands, *call.arguments[position + 1 :]]
        if not re.match(r"-(?!$)", word.text):
            operands.append(word)
    return operands


def has_flag(call: Call, letters: str, *names: str) -> bool:
    """Whether a one-letter option of `letters`, or a long option that starts one of `names`, is there.

    Long options may be cut short, as GNU programs allow: `--rec` is `--recursive`.
    """
    for text in call.texts:
        if text == "--":
            return False
        if text.startswith("--"):
            given = text.split("=")[0]
            if len(given) > 4 and any(name.startswith(given) for name in names):
                return True
        elif text.startswith("-") and set(letters) & set(text[1:]) and re.fullmatch(r"-[A-Za-z0-9]+", text):
            return True
    return False


def is_recursive(call: Call) -> bool:
    return has_flag(call, "rR", "--recursive")


def values_of(call: Call, *options: str) -> Iterator[Word]:
    """The values of options, written `-o value`, `-ovalue`, `--option value` or `--option=value`."""
    for position, word in enumerate(call.arguments):
        for option in options:
            if word.text == option and position + 1 < len(call.arguments):
                yield call.arguments[position + 1]
            elif option.startswith("--") and word.text.startswith(f"{option}="):
                yield Word(word.text[len(option) + 1 :], word.is_certain)
            elif len(option) == 2 and word.text.startswith(option) and len(word.text) > 2 and word.text[1] != "-":
                yield Word(word.text[2:].removeprefix("="), word.is_certain)


def chain_of(call: Call | None) -> Iterator[Call]:
    """`call`, the call that it reads from, and so on."""
    while call is not None:
        yield call
        call = call.source


def documents_of(call: Call) -> Iterator[Word]:
    """Here-documents and here-strings that a call reads."""
    yield from (redirect.target for redirect in call.redirects if redirect.operator in ("<<", "<<<"))
