"""Judges a shell command before it is run, taught or given away: allow, ask its owner first, or refuse; with the reason.

Takes a text; gives a `Verdict`. Follows what wraps or hides a command: sudo, xargs, find -exec, sh -c, eval, pipes into a shell,
encodings, variables, functions. What cannot be read is asked about. The rules of single programs are in `rules/`. It looks at the
text alone: what a script, an alias or a link on the machine holds, it cannot know.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import dataclasses
import re
from collections.abc import Iterator

from overseer_training.guards.calls import (
    DOWNLOADS,
    REMOVES,
    SHELLS,
    chain_of,
    documents_of,
    is_interpreter,
    operands_of,
)
from overseer_training.guards.commands import after_host, inner_commands
from overseer_training.guards.places import OWN_STARTUP, SHARED, place_of
from overseer_training.guards.rules import dangers_of
from overseer_training.guards.rules.machine import assigned
from overseer_training.guards.rules.network import started_files
from overseer_training.guards.rules.writing import write_targets
from overseer_training.guards.searches import found_by_find, given_by_input
from overseer_training.guards.shell import Call, Script, read_script
from overseer_training.guards.verdicts import Verdict, ask, format_verdict, refuse, worst
from overseer_training.guards.words import HOME
from overseer_training.guards.wrappers import TAKES_TEXT, printed_by, unwrap

DEEPEST, LONGEST = 5, 6000  # nesting, characters; beyond, a person has to look
HIDDEN = re.compile("[\u00a0\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\u3164\ufeff\uffa0\U000e0000-\U000e007f]|[\x00-\x08\x0b-\x1f\x7f]")  # fmt: skip
LOOKALIKES = re.compile(r"[a-zA-Z][\u0370-\u03ff\u0400-\u052f\uff00-\uff5e]|[\u0370-\u03ff\u0400-\u052f\uff00-\uff5e][a-zA-Z]|[\uff01-\uff5e]{2}|[\u2044\u2215\u29f8\uff0f]")  # fmt: skip
DECODES = {
    "base64",
    "base32",
    "basenc",
    "xxd",
    "openssl",
    "rev",
    "tr",
    "gunzip",
    "zcat",
    "uudecode",
    "sed",
    "awk",
    "cut",
    "od",
    "iconv",
    "tac",
}
ENCRYPTS = re.compile(r"\b(?:openssl\s+enc\b(?!.*\s-d\b)|gpg2?\b.*\s(?:-c|--symmetric|-e|--encrypt|-\w*c)\b|age\s+(?:-\w+\s+\S+\s+)*-[rpe]|ccrypt\b|7za?\s+a\b.*\s-p|zip\b.*\s-(?:P|e)\b)")  # fmt: skip


def judge(command: str) -> Verdict:
    """The gravest verdict that any part of `command` gets."""
    if len(command) > LONGEST:
        return ask("it is too long to be judged")
    verdicts = list(_hidden(command))
    verdicts += _judge(command, 0, "")
    return worst(verdicts)


def _hidden(command: str) -> Iterator[Verdict]:
    if command.isascii() and command.isprintable():
        return
    if HIDDEN.search(command.replace("\r\n", "\n")):
        yield ask("it has characters that cannot be seen")
    elif LOOKALIKES.search(command):
        yield ask("it has letters that only look like others")


def _judge(text: str, depth: int, folder: str) -> Iterator[Verdict]:
    if depth > DEEPEST:
        yield ask("it is nested too deeply to be judged")
        return
    script = read_script(text)
    if not script.is_whole:
        yield ask("it cannot be read as a whole")
    if script.is_endless:
        yield ask("it goes on without end or pause")
    yield from _forks(script)
    yield from _encrypts(script)
    for name, value in script.assignments:
        yield from _set(name, value.text, value.is_certain, depth, folder)
    fetched: dict[str, str | None] = {}  # file -> its text, where the command itself says it
    aliases: dict[str, str] = {}
    links: dict[str, str] = {}
    for original in script.calls:
        call = _through(links, original)
        if call.name in aliases:
            yield from _judge(" ".join((aliases[call.name], *call.texts)), depth + 1, folder)
        if call.name == "alias":
            aliases.update(tuple(text.split("=", 1)) for text in call.texts if "=" in text)  # type: ignore[misc]
        for file in started_files(_innermost(call)):
            if file in fetched:
                known = fetched[file]
                if known is None or is_interpreter(call.name) or re.match(r"#!(?!.*sh\b)", known):
                    yield ask("it runs what was fetched or written just before")
                else:
                    yield from _judge(known, depth + 1, folder)
        yield from _judge_call(call, depth, folder)
        if call.name == "ln" and len(operands_of(call)) == 2:
            target, link = operands_of(call)
            links[link.text.rstrip("/")] = target.text.rstrip("/")
        fetched.update(_fetched_by(call))
        if call.name in ("cd", "pushd"):
            operands = operands_of(call)
            folder = place_of(operands[0], folder).path if operands else HOME


def _through(links: dict[str, str], call: Call) -> Call:
    """`call` with paths below a link that the same text has made led to where the link points."""
    if not links:
        return call
    words = []
    for word in call.words:
        start = next((link for link in links if word.text.startswith(f"{link}/")), None)
        text = word.text if start is None else f"{links[start]}{word.text[len(start) :]}"
        words.append(dataclasses.replace(word, text=text))
    return dataclasses.replace(call, words=tuple(words))


def _innermost(call: Call) -> Call:
    while (inner := unwrap(call)) is not None:
        call = inner
    return call


def _fetched_by(call: Call) -> dict[str, str | None]:
    call = _innermost(call)
    documents = [document.text for document in documents_of(call)]
    text = "\n".join(documents) if documents else printed_by(call)
    names = (
        {word.text for word in write_targets(call)}
        if call.name not in ("cp", "mv", "ln", "install", "gcc", "cc", "clang", "go")
        else set()
    )
    if call.name in DOWNLOADS:
        names |= {text for text in call.texts if re.search(r"[/.]", text)}
    elif call.name in ("cp", "mv", "ln", "install") and any(SHARED.match(word.text) for word in operands_of(call)[:-1]):
        names.add(operands_of(call)[-1].text)
    bases = {name.rstrip("/").rsplit("/", 1)[-1] for name in names if name} - {"", ".", "null", "stdout", "stderr"}
    return dict.fromkeys(bases, text)


def _forks(script: Script) -> Iterator[Verdict]:
    for name, called in script.functions.items():
        if called.count(name) > 1:
            yield refuse("a function that starts itself twice stops the machine")
        elif name in called:
            yield ask("a function calls itself without end")


def _encrypts(script: Script) -> Iterator[Verdict]:
    texts = [" ".join((call.name, *call.texts)) for call in script.calls]
    if any(ENCRYPTS.search(text) for text in texts):
        removing = any(call.name in REMOVES - {"gio"} for call in script.calls)
        if removing or any(re.search(r"-exec\s+(?:rm|shred|srm|wipe)|-delete\b", text) for text in texts):
            yield ask("it encrypts files and removes the originals")


def _set(name: str, value: str, is_certain: bool, depth: int, folder: str) -> Iterator[Verdict]:
    yield from assigned(name, value, is_certain)
    if name in ("PROMPT_COMMAND", "EDITOR", "VISUAL", "PAGER", "BROWSER", "LESSOPEN", "GIT_SSH_COMMAND", "MANPAGER", "GIT_PAGER", "GIT_EDITOR", "SUDO_ASKPASS"):  # fmt: skip
        yield from _judge(value, depth + 1, folder)
    elif re.fullmatch(r"PS[0-4]|PROMPT|RPROMPT", name):
        for command in re.findall(r"\$\(([^()]*)\)|`([^`]*)`", value):
            yield from _judge("".join(command), depth + 1, folder)


def _judge_call(call: Call, depth: int, folder: str) -> Iterator[Verdict]:
    name, first = call.name, call.words[0]
    for variable, value in call.assignments:
        yield from _set(variable, value.text, value.is_certain, depth, folder)
    if not first.is_certain and not re.match(r"(?:/|\./|[\w-]+/)|\$\{?(?:EDITOR|VISUAL|PAGER|BROWSER)\}?$", first.text):
        yield ask("which program runs is only known when it runs")
        return
    if first.text.startswith("(") and first.text.endswith(")"):  # `time (…)`
        yield from _judge(first.text[1:-1], depth + 1, folder)
        return
    if (
        first.is_disguised
        or not first.text.isascii()
        or re.search(r"[*?]|\[.*\]", first.text.strip("[]"))
        or re.search(r"\s", name)
    ):
        yield ask("the program's name is written so that it hides")
    outputs = [*call.texts, *(redirect.target.text for redirect in call.redirects)]
    if any(re.match(r">\(.*\b(?:ba|z|da|k|fi)?sh\b", text) for text in outputs):
        yield ask("a shell runs what another program prints")
    inner = unwrap(call)
    if name in ("xargs", "parallel"):
        for passed in given_by_input(call, inner, folder):
            yield passed if isinstance(passed, Verdict) else worst(_judge_call(passed, depth + 1, folder))
    if inner is not None:
        if name in TAKES_TEXT:
            yield from _judge(" ".join(word.text for word in inner.words), depth + 1, folder)
            return
        if name == "chroot" or (
            name == "nsenter" and re.search(r"(?:^|\s)(?:-t|--target)[ =]?1\b", " ".join(call.texts))
        ):
            yield ask("it works on another system as its administrator")
        if depth < DEEPEST + 2:
            yield from _judge_call(inner, depth + 1, folder)
        else:
            yield ask("it is nested too deeply to be judged")
        if name not in ("flock", "script", "sudo", "runuser"):
            return
        if name == "sudo":
            return
    elif name in ("sudo", "chroot", "nsenter", "doas") and (
        call.source is not None or list(documents_of(call)) or name in ("chroot", "nsenter")
    ):
        yield from _from_pipe(call, depth, folder)
        if name in ("chroot", "nsenter"):
            yield ask("it works on another system as its administrator")
    for each in inner_commands(call):
        if each.reason:
            yield ask(each.reason)
        if each.text:
            yield from _judge(each.text, depth + 1, folder)
    if _reads_commands(call):
        yield from _from_pipe(call, depth, folder)
    if name == "find":
        for found in found_by_find(call, folder):
            yield found if isinstance(found, Verdict) else worst(_judge_call(found, depth + 1, folder))
    yield from _startup_lines(call, depth, folder)
    yield from dangers_of(call, folder)


def _startup_lines(call: Call, depth: int, folder: str) -> Iterator[Verdict]:
    """Lines that are added to a file which a shell reads at its start: judged as the commands that they will be."""
    targets = [word for word in write_targets(call) if OWN_STARTUP.fullmatch(place_of(word, folder).path)]
    if not targets or call.name in ("cp", "ln", "install", "rsync", "scp", "mv"):
        if targets and call.name == "ln":
            yield ask(f"{targets[0].shown} decides what runs at every start")
        return
    source = call.source if call.name in ("tee", "sponge") else call
    documents = [document.text for stage in chain_of(source) for document in documents_of(stage)]
    printed = printed_by(source) if source is not None else None
    known = documents + ([printed] if printed is not None else [])
    if targets[0].text.endswith("config"):
        if any(
            re.search(r"(?i)ProxyCommand|LocalCommand|StrictHostKeyChecking\s+no|sshCommand|hooksPath", text)
            for text in known
        ):
            yield ask(f"{targets[0].shown} decides what runs when you connect")
        return
    if source is not None and not known and not all(word.is_certain for word in source.arguments):
        known = [text for text in source.texts if text != "-e"]
    if not known:
        yield ask(f"{targets[0].shown} runs at every start, and what is added is not known")
    for text in known:
        verdict = worst(_judge(text, depth + 1, folder))
        if verdict.decision != "allow" or re.search(r"\b(?:nohup|nc|ncat|curl|wget)\s|/tmp/|&\s*$", text):
            yield ask(f"it would run at every start: {verdict.reason or text[:40]}")


def _reads_commands(call: Call) -> bool:
    """Whether a call is a shell, here or elsewhere, that reads its commands from its input."""
    name, texts = call.name, call.texts
    if name in SHELLS:
        has_text = any(re.fullmatch(r"-[a-zA-Z]*c", text) for text in texts)
        script = [text for text in texts if not text.startswith(("-", "+")) and text != "/dev/stdin"]
        return not has_text and (
            not script or any(re.fullmatch(r"-\w*s\w*", text) for text in texts) or script[0].startswith("<(")
        )
    if name in ("ssh", "autossh"):
        rest = [word.text for word in after_host(call.arguments)]
        reads = call.source is not None or bool(list(documents_of(call)))
        return reads and (not rest or rest[-1] in SHELLS or rest[-1] == "-s")
    if name in ("at", "batch", "crontab", "su", "source", "."):
        return call.source is not None or bool(list(documents_of(call)))
    return False


def _from_pipe(call: Call, depth: int, folder: str) -> Iterator[Verdict]:
    """A shell that reads its commands from a pipe, a here-document, a here-string or a substitution."""
    for document in documents_of(call):
        yield from _judge(document.text, depth + 1, folder)
        if not document.is_certain and re.match(r"\s*[\"']?[$`]", document.text):
            yield ask("what runs is only known when it runs")
    if any(redirect.operator == "<" for redirect in call.redirects):
        yield ask("what runs is only known when it runs")
    if any(re.match(r"<\(|/dev/stdin|/dev/fd", text) for text in call.texts):
        yield ask("it runs what another program prints")
    if call.source is None:
        return
    chain = list(chain_of(call.source))
    names = {stage.name for stage in chain}
    if names & DOWNLOADS:
        yield ask("it runs what a server sends")
    elif names & DECODES:
        yield ask("it runs a text that was hidden")
    else:
        yield ask("it runs what another program prints")
    texts = [text for stage in chain if (text := printed_by(stage)) is not None]
    texts += [document.text for stage in chain for document in documents_of(stage)]
    for text in texts:
        yield from _judge(text, depth + 1, folder)
        for plain in _decoded(text) if names & DECODES else ():
            yield from (verdict for verdict in _judge(plain, depth + 1, folder) if verdict.decision == "refuse")


def _decoded(text: str) -> Iterator[str]:
    """What base64, hexadecimal digits, a reversed or a rotated text may stand for."""
    compact = re.sub(r"\s+", "", text)
    for decode in (lambda t: base64.b64decode(t, validate=True), bytes.fromhex):
        try:
            yield decode(compact).decode()
        except (binascii.Error, ValueError):
            continue
    yield text[::-1]
    yield codecs.decode(text, "rot13")


__all__ = ["Verdict", "format_verdict", "judge"]
