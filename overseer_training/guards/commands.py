"""Commands inside a call: what a shell, ssh, a container, an option or a key press would run.

Takes a call; gives `Inner`s, each a text for the shell or a reason why nobody can know it. Judges nothing.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

from overseer_training.guards.calls import SHELLS, documents_of, is_interpreter, values_of
from overseer_training.guards.shell import Call
from overseer_training.guards.words import Word

# Options whose value a program hands to a shell, or starts.
RUN_OPTIONS: dict[str, tuple[str, ...]] = {
    "man": ("-P", "--pager"), "tcpdump": ("-z",), "zip": ("-TT", "--unzip-command"), "rsync": ("-e", "--rsh", "--rsync-path"),
    "tar": ("--to-command", "--checkpoint-action", "--use-compress-program", "-I", "--rsh-command", "--info-script", "-F"),
    "script": ("-c", "--command"), "flock": ("-c", "--command"), "xterm": ("-e",), "urxvt": ("-e",), "gnome-terminal": ("-e", "--command"),
    "konsole": ("-e",), "alacritty": ("-e",), "vagrant": ("-c", "--command"), "gcloud": ("--command",), "ansible": ("-a", "--args"),
    "sort": ("--compress-program",), "split": ("--filter",), "su": ("-c", "--command"), "runuser": ("-c", "--command"), "sg": ("-c",),
    "wget": ("--use-askpass",), "git": ("--exec", "-x"), "pip": ("--global-option",), "newgrp": ("-c",), "ssh-agent": (),
    "inotifywait": (), "logrotate": (), "nmap": (), "mosh": ("--ssh", "--server"), "sftp": ("-S",), "scp": ("-S",), "less": (),
}  # fmt: skip
TERMINALS = {"tmux", "screen"}
ENGINES = {"docker", "podman", "nerdctl", "lxc", "incus", "kubectl", "oc", "crictl", "docker-compose", "ctr"}
ENGINE_VALUES = re.compile(
    r"-(?:[a-z]*[eunwvplhmc]|f)|--(?:name|user|env|workdir|volume|network|publish|entrypoint|namespace|container|platform|memory|label|mount|env-file|project|shm-size|gpus)"
)
PRINTS_SETTINGS = {
    *(
        "ssh-agent",
        "gpg-agent",
        "direnv",
        "pyenv",
        "rbenv",
        "nodenv",
        "goenv",
        "jenv",
        "brew",
        "starship",
        "zoxide",
        "dircolors",
        "minikube",
    ),
    *(
        "docker-machine",
        "thefuck",
        "fnm",
        "mise",
        "rtx",
        "opam",
        "luarocks",
        "conda",
        "register-python-argcomplete",
        "keychain",
        "atuin",
    ),
    *(
        "lesspipe",
        "kubectl",
        "gh",
        "helm",
        "pip",
        "npm",
        "navi",
        "mcfly",
        "fzf",
        "resize",
        "tset",
        "locale",
        "micromamba",
        "uv",
        "plenv",
    ),
    *(
        "perl",
        "rustup",
        "poetry",
        "aws-vault",
        "saml2aws",
        "gcloud",
        "basher",
        "oh-my-posh",
        "hub",
        "nvm",
        "asdf",
        "devbox",
        "luaver",
    ),
}


@dataclasses.dataclass(frozen=True)
class Inner:
    """A text that is run as a command; `reason`, where there is one, is a question that must be asked in any case."""

    text: str
    reason: str = ""


def inner_commands(call: Call) -> Iterator[Inner]:
    """All texts that `call` runs as commands, except those that reach a shell through its pipe."""
    name, arguments, texts = call.name, call.arguments, call.texts
    if name in SHELLS or (name in ("su", "runuser", "script", "flock", "sg") and call.texts):
        yield from _after_c(call)
    if name in SHELLS and any(re.match(r"--(?:rcfile|init-file)", text) for text in texts):
        yield Inner("", "the shell would read its settings from another file")
    elif name == "eval":
        yield from _evaluated(call)
    elif name == "trap" and arguments and not texts[0].startswith("-"):
        yield Inner(texts[0])
    elif name == "alias":
        yield from (Inner(text.split("=", 1)[1]) for text in texts if "=" in text)
    elif name in ("ssh", "autossh"):
        words = after_host(arguments)
        yield from _joined(words)
    elif name in ENGINES:
        yield from _in_container(call)
    elif name in TERMINALS:
        yield from _in_terminal(call)
    elif name == "git":
        yield from _by_git(call)
    elif name == "make" and (texts[:2] == ("-f", "-") or "/dev/stdin" in texts):
        yield Inner("", "it runs what is only known when it runs")
    elif name in ("batch", "at") and not texts:
        yield from (Inner(document.text) for document in documents_of(call))
    for word in values_of(call, *RUN_OPTIONS.get(name, ())) if name in RUN_OPTIONS else ():
        text = re.sub(r"^exec=", "", word.text)
        first = re.split(r"[\s=]", text.strip())[0].rsplit("/", 1)[-1]
        strange = (
            first in SHELLS or is_interpreter(first) or re.search(r"[;|&$`<>]", text) or text.startswith(("/tmp", "./"))
        )
        may_be_shell = name in ("su", "runuser", "script", "flock", "sg", "vagrant", "gcloud", "ansible", "split")
        yield Inner(text, f"an option of {name} runs another program" if strange and not may_be_shell else "")


def _after_c(call: Call) -> Iterator[Inner]:
    """`sh -c TEXT NAME WORDS…`: the words are `$0`, `$1`, … of the text."""
    for position, word in enumerate(call.arguments[:-1]):
        if re.fullmatch(r"-[a-zA-Z]*c", word.text) or word.text == "--command":
            text = call.arguments[position + 1]
            given = call.arguments[position + 2 :]
            filled = _with_arguments(text.text, given) if call.name in SHELLS and given else text.text
            unknown = not text.is_certain and re.match(r"[\"']?(?:\$|`)", text.text) is not None
            yield Inner(filled, "what runs is only known when it runs" if unknown else "")
            return


def _with_arguments(text: str, given: tuple[Word, ...]) -> str:
    """`text` with `$0`, `$1`, … and `$@` replaced."""
    everything = " ".join(quoted(each) for each in given[1:])

    def numbered(match: re.Match[str]) -> str:
        return given[int(match[1])].text if int(match[1]) < len(given) else match[0]

    text = re.sub(r'"?\$\{?[@*]\}?"?', lambda _: everything, text)
    return re.sub(r"\$\{?(\d)\}?", numbered, text)


def quoted(word: Word) -> str:
    """`word` as one word of a command line, where its text is plain; as it is where it is not."""
    return (
        word.text if re.fullmatch(r"[\w@%+=:,./~*?{}$-]+", word.text) else "'" + word.text.replace("'", "'\\''") + "'"
    )


def _evaluated(call: Call) -> Iterator[Inner]:
    text = " ".join(call.texts)
    if all(word.is_certain for word in call.arguments):
        yield Inner(text)
        return
    match = re.fullmatch(r"(?:\$\(|`)\s*(?:command\s+)?([\w./~-]+)\s[^|;&<>$`]*(?:\)|`)|\$\(([\w-]+)\)", text.strip())
    program = (match[1] or match[2]).rsplit("/", 1)[-1] if match else ""
    if program not in PRINTS_SETTINGS:
        yield Inner(text, "what runs is only known when it runs")


def _joined(words: tuple[Word, ...]) -> Iterator[Inner]:
    if words:
        yield Inner(" ".join(word.text for word in words))


def after_host(arguments: tuple[Word, ...]) -> tuple[Word, ...]:
    """What ssh runs on the other machine."""
    position = 0
    while position < len(arguments):
        text = arguments[position].text
        if re.fullmatch(r"-[a-zA-Z]*[BbcDEeFIiJLlMmOopQRSWw]", text) and not re.fullmatch(r"-[a-zA-Z]*M", text):
            position += 2
        elif text.startswith("-"):
            position += 1
        else:
            return arguments[position + 1 :]
    return ()


def _in_container(call: Call) -> Iterator[Inner]:
    """`docker exec NAME COMMAND…`, `docker run IMAGE COMMAND…`, `kubectl exec NAME -- COMMAND…`."""
    texts = call.texts
    verb = next((position for position, text in enumerate(texts) if text in ("exec", "run", "debug")), None)
    if verb is None:
        return
    rest = list(call.arguments[verb + 1 :])
    if "--" in [word.text for word in rest]:
        position = [word.text for word in rest].index("--")
        yield from _joined_quoted(rest[position + 1 :])
        return
    while rest and rest[0].text.startswith("-"):
        option = rest.pop(0).text
        if ENGINE_VALUES.fullmatch(option) and not re.fullmatch(r"-(?:it|ti|i|t|d|dit|itd|rm|P)", option) and rest:
            rest.pop(0)
    yield from _joined_quoted(rest[1:])


def _joined_quoted(words: list[Word]) -> Iterator[Inner]:
    if words:
        yield Inner(" ".join(quoted(word) for word in words))


def _in_terminal(call: Call) -> Iterator[Inner]:
    """Commands that a terminal multiplexer starts, or keys that it presses."""
    texts = call.texts
    presses = "send-keys" in texts or "send" in texts or "stuff" in texts
    for position, word in enumerate(call.arguments):
        if presses or word.text in SHELLS:
            skipped = {"-t", "-X", "-S", "-p", "send-keys", "send", "stuff", "Enter", "C-m"}
            rest = call.arguments[position:]
            words = [each for each in rest if each.text not in skipped] if presses else list(rest)
            yield Inner(
                " ; ".join(each.text for each in words) if presses else " ".join(quoted(each) for each in words)
            )
            return
        if " " in word.text:
            yield Inner(word.text)


def _by_git(call: Call) -> Iterator[Inner]:
    texts = call.texts
    for position, text in enumerate(texts):
        if text == "foreach" and position + 1 < len(texts):
            yield Inner(" ".join(part for part in texts[position + 1 :] if part != "--recursive"))
        elif text == "run" and "bisect" in texts[:position]:
            yield Inner(" ".join(texts[position + 1 :]))
        elif re.match(r"alias\.\w+=!|!", text) and not text.startswith("!="):
            yield Inner(text.split("!", 1)[1])
