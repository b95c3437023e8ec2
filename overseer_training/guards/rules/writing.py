"""What changes files: copies, redirections, editors, downloads, archives; judged by the place that is written."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from overseer_training.guards.calls import SHELLS, has_flag, operands_of, values_of
from overseer_training.guards.places import (
    DEVICE,
    HISTORY,
    MEMORY,
    OWN_STARTUP,
    RECORDS,
    RIGHTS,
    SECRET,
    STARTUP,
    SYSTEM_DISK,
    VITAL,
    Place,
    place_of,
)
from overseer_training.guards.rules.register import rule
from overseer_training.guards.shell import Call, Redirect
from overseer_training.guards.verdicts import Verdict, ask, refuse
from overseer_training.guards.words import Word

CORE = re.compile(
    r"/usr/local/s?bin/(?:sudo|su|ls|ps|cat|cp|mv|rm|ssh|sshd|login|passwd|bash|sh|zsh|top|netstat|ss|find|grep|id|w|who|git|kill|ip)"
)
# Options whose value is a file that gets written.
OUTPUTS: dict[str, tuple[str, ...]] = {
    "curl": ("-o", "--output"), "wget": ("-O", "--output-document"), "sort": ("-o", "--output"), "openssl": ("-out",),
    "gpg": ("-o", "--output"), "age": ("-o", "--output"), "ffmpeg": (), "find": ("-fprint", "-fprintf", "-fls", "-fprint0"),
    "gcc": ("-o",), "cc": ("-o",), "clang": ("-o",), "go": ("-o",), "iconv": ("-o",), "jq": ("-o",), "tcpdump": ("-w",),
    "uniq": (), "xxd": (), "nmap": ("-oN", "-oX", "-oG"), "strace": ("-o",), "script": ("-O", "--log-out"), "yt-dlp": ("-o",),
}  # fmt: skip


def written(place: Place, shown: str, *, appends: bool, is_copy: bool = False) -> Iterator[Verdict]:
    """Verdicts for a file whose content is replaced, or that is appended to."""
    path = place.path
    if DEVICE.fullmatch(path):
        yield (refuse if SYSTEM_DISK.match(path) else ask)(f"writing to {path} destroys what is on the disk")
    elif MEMORY.fullmatch(path):
        yield refuse(f"writing to {path} stops or changes the machine")
    elif RIGHTS.fullmatch(path):
        yield refuse(f"{path} decides who may do what")
    elif STARTUP.fullmatch(path):
        yield ask(f"{shown} decides what runs or who gets in")
    elif VITAL.fullmatch(path) and path != "/etc/hosts":
        program = re.match(r"/(?:usr/)?(?:s?bin|lib)", path) is not None
        yield (ask if is_copy or appends else refuse)(
            f"{shown} belongs to the system"
            if program
            else f"the system may not start or let you in without a right {shown}"
        )
    elif path == "/etc/hosts" and not appends:
        yield ask(f"it replaces all of {shown}")
    elif HISTORY.fullmatch(path):
        yield ask("it changes the record of commands")
    elif RECORDS.fullmatch(path) and not appends:
        yield ask(f"{shown} is a record of what happened")
    elif CORE.fullmatch(path):
        yield ask(f"{shown} would run in place of the system's own program")
    elif (path.startswith(("/sys/", "/proc/")) and not path.startswith("/proc/sys/vm/")) or (
        not appends and not is_copy and re.fullmatch(r"/etc/[^/]+|/var/lib/.*", path)
    ):
        yield ask(f"{shown} belongs to the system")
    elif OWN_STARTUP.fullmatch(path) and not appends:
        yield ask(f"it replaces {shown}, which is read at every start")
    elif SECRET.fullmatch(path) and not appends:
        yield ask(f"it replaces the secret {shown}")


def redirected(redirect: Redirect, call: Call, folder: str) -> Iterator[Verdict]:
    """Verdicts for a file that a call writes to or reads from."""
    text, operator = redirect.target.text, redirect.operator
    if re.search(r"/dev/(?:tcp|udp)/", text):
        shell = call.name in SHELLS | {"exec", "cat"}
        yield (refuse if shell else ask)("it opens a connection from the shell, as back doors do")
    elif operator in (">", ">|", "&>", ">>", "&>>", ">&", "<>") and not re.fullmatch(r"\d+-?|-", text):
        place = place_of(redirect.target, folder)
        yield from written(place, redirect.target.shown, appends=">>" in operator)
    elif operator == "<":
        place = place_of(redirect.target, folder)
        if SECRET.fullmatch(place.path) and not HISTORY.fullmatch(place.path):
            yield ask(f"{redirect.target.shown} holds secrets")


def write_targets(call: Call) -> Iterator[Word]:
    """Files that a call writes: by redirection, by option or as tee does."""
    for redirect in call.redirects:
        if redirect.operator.startswith((">", "&>")) and not re.fullmatch(r"\d+-?|-", redirect.target.text):
            yield redirect.target
    yield from values_of(call, *OUTPUTS.get(call.name, ()))
    if call.name in ("tee", "sponge"):
        yield from operands_of(call)
    elif call.name in ("scp", "rsync", "sftp", "install", "cp", "mv", "ln") and len(operands_of(call)) > 1:
        yield operands_of(call)[-1]


@rule("tee", "sponge", "truncate", "split", "csplit", "touch")
def _writes_operands(call: Call, folder: str) -> Iterator[Verdict]:
    appends = call.name == "tee" and has_flag(call, "a", "--append")
    for word in operands_of(call):
        place = place_of(word, folder)
        if call.name == "touch":
            if has_flag(call, "dtr", "--date", "--reference") and (place.is_system or RECORDS.fullmatch(place.path)):
                yield ask(f"it gives {word.shown} a false date")
            continue
        yield from written(place, word.shown, appends=appends)


@rule("cp", "ln", "install", "rsync", "mv", "ditto", "scp")
def _copies(call: Call, folder: str) -> Iterator[Verdict]:
    taken = (
        {word.text for word in values_of(call, "-i", "-e", "-F", "-J", "-P", "-S", "--rsh")}
        if call.name in ("scp", "rsync")
        else set()
    )
    operands = [word for word in operands_of(call) if word.text not in taken]
    targets = list(values_of(call, "-t", "--target-directory")) or operands[-1:]
    sources = [word for word in operands if word not in targets]
    for target in targets if len(operands) > 1 or sources else []:
        place = place_of(target, folder)
        inside = Place(posixpath.join(place.path, posixpath.basename(sources[0].text) if sources else "x"), True, False)
        into = [inside] if target.text.endswith("/") or place.is_critical or place.path.endswith(".d") else [place]
        for each in into:
            yield from written(each, target.shown, appends=False, is_copy=True)
        if place.path == "/" and call.name != "rsync":
            yield ask("it writes into the root of the system")
    for word in sources:
        place = place_of(word, folder)
        if DEVICE.fullmatch(place.path):
            yield ask("it reads a whole disk")
        elif SECRET.fullmatch(place.path) and call.name in ("cp", "install", "scp", "rsync"):
            away = any(re.match(r"[^/]+:", target.text) for target in targets)
            if away:
                yield refuse(f"it sends the secret {word.shown} away")
            elif not any(SECRET.fullmatch(place_of(target, folder).path) for target in targets):
                yield ask(f"it makes a copy of the secret {word.shown}")
    if call.name == "ln" and any(place_of(word, folder).path == "/" for word in sources):
        yield ask("whatever is done below the link is done to the whole system")


@rule("sed", "gsed", "perl", "ruby", "ex", "ed", "vim", "vi", "nvim", "nano", "emacs", "patch")
def _edits(call: Call, folder: str) -> Iterator[Verdict]:
    """Edits in place; editors may open what they like, but not what decides who may do what."""
    in_place = call.name not in ("sed", "gsed", "perl", "ruby") or any(
        re.match(r"-[a-zA-Z]*i|--in-place", text) for text in call.texts
    )
    is_batch = call.name in ("sed", "gsed", "perl", "ruby", "ex", "ed", "patch") or has_flag(call, "sE")
    for word in operands_of(call) if in_place else []:
        place = place_of(word, folder)
        if RIGHTS.fullmatch(place.path):
            yield ask(f"{word.shown} decides who may do what")
        elif (
            is_batch
            and (place.path != "/etc/hosts" or call.name in ("ex", "ed"))
            and (VITAL.fullmatch(place.path) or STARTUP.fullmatch(place.path) or RECORDS.fullmatch(place.path))
        ):
            yield ask(f"{word.shown} belongs to the system")
        elif place.is_critical and place.is_content:
            yield ask("it changes every file of the system")


@rule("sed", "gsed")
def _scripts_of_sed(call: Call, folder: str) -> Iterator[Verdict]:
    """GNU sed runs commands (`e`) and writes files (`w`)."""
    scripts = [*values_of(call, "-e", "--expression")] or operands_of(call)[:1]
    for script in scripts:
        if re.search(
            r"^\s*(?:\d+|\$|/[^/]*/)?\s*e(?:\s|$)|s(\W).*\1.*\1[gpiImM\d]*e[gpiImM\d]*(?:\s|;|$)", script.text
        ):
            yield ask("sed runs commands that it makes up from a text")
        for path in re.findall(r"(?:^|[;/\s])w\s+(/\S+)", script.text):
            yield from written(place_of(Word(path), folder), path, appends=False)


@rule(*OUTPUTS)
def _outputs(call: Call, folder: str) -> Iterator[Verdict]:
    for word in values_of(call, *OUTPUTS[call.name]):
        place = place_of(word, folder)
        yield from written(place, word.shown, appends=False, is_copy=call.name in ("curl", "wget"))
        if (
            call.name in ("curl", "wget")
            and re.match(r"/usr/local/s?bin/", place.path)
            and "http://" in " ".join(call.texts)
        ):
            yield ask("it installs a program that came without any protection")


@rule("tar", "bsdtar", "gtar", "unzip", "cpio", "7z", "unrar", "bsdcpio", "pax")
def _unpacks(call: Call, folder: str) -> Iterator[Verdict]:
    options = {"tar": ("-C", "--directory"), "bsdtar": ("-C",), "gtar": ("-C",), "unzip": ("-d",), "cpio": ("-D", "--directory"), "7z": ("-o",)}  # fmt: skip
    extracts = call.name not in ("tar", "bsdtar", "gtar", "cpio") or any(
        re.match(r"-?[a-wyzA-Z]*[xi]|--extract|--get", text) for text in call.texts[:3]
    )
    for word in values_of(call, *options.get(call.name, ())):
        place = place_of(word, folder)
        if (
            extracts
            and (place.is_critical or place.is_system)
            and place.path not in ("/usr/local", "/opt", "/srv", "/mnt")
        ):
            yield ask(f"it may overwrite what is in {word.shown}")
    if extracts and ("-P" in call.texts or "--absolute-names" in call.texts):
        yield ask("it writes wherever the archive says")
