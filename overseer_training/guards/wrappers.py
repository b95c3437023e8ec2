"""Programs that run another one (sudo, env, xargs, docker exec …): takes a call, gives the call inside it, or its text.

What a wrapper's own options do is left to the rules; here only the command inside is found.
"""

from __future__ import annotations

import itertools
import re

from overseer_training.guards.calls import PRINTS, SHELLS
from overseer_training.guards.shell import Call
from overseer_training.guards.words import Word, unescape

# Wrappers, and those of their one-letter options that take a value.
WRAPPERS: dict[str, str] = {
    **dict.fromkeys(("nohup", "setsid", "command", "builtin", "busybox", "toybox", "unbuffer", "rlwrap", "catchsegv", "then"), ""),
    **dict.fromkeys(("else", "do", "!", "coproc", "pkexec", "proot", "firejail", "faketime", "chroot", "dbus-run-session", "eatmydata"), ""),
    **{"sudo": "ugpCDRTrth", "doas": "uC", "env": "uC", "nice": "n", "ionice": "cnp", "time": "fo", "timeout": "ks", "stdbuf": "ioe"},
    **{"exec": "a", "unshare": "RwSG", "nsenter": "tSGrw", "strace": "epoPs", "ltrace": "epo", "caffeinate": "tw", "chrt": "TPD"},
    **{"taskset": "", "flock": "wE", "systemd-run": "pMtHu", "setpriv": "", "capsh": "", "numactl": "NmCip", "runuser": "ugG"},
    **{"xargs": "IiLlnPsdEa", "parallel": "jINSa", "watch": "nd", "entr": "", "torsocks": "", "proxychains": "f", "proxychains4": "f"},
    **{"cpulimit": "lpe", "choom": "np", "fakeroot": "ls", "start-stop-daemon": "pucg", "daemonize": "pcouel", "sem": "j"},
    **{"valgrind": "", "hyperfine": "wrm", "multitime": "n", "chpst": "u", "setuidgid": "", "softlimit": ""},
}  # fmt: skip
LEADING_OPERANDS = {"timeout": 1, "chroot": 1, "flock": 1, "chrt": 1, "taskset": 1, "faketime": 1, "setuidgid": 1}
TAKES_TEXT = {"watch", "parallel", "hyperfine", "entr", "sem"}  # these join their words and hand them to a shell
LOADERS = re.compile(r"ld-(?:linux|musl)[\w.-]*\.so\.\d+|ld\.so")
MARK = "{}"


def unwrap(call: Call) -> Call | None:
    """The call that a wrapper such as sudo runs, or None when this is no wrapper or runs nothing."""
    name = call.name
    if LOADERS.fullmatch(name):
        return _inner(call, list(itertools.dropwhile(lambda word: word.text.startswith("-"), call.arguments)))
    if name not in WRAPPERS or (name == "command" and call.texts[:1] and re.match(r"-[vV]", call.texts[0])):
        return None
    rest = list(call.arguments)
    if name == "coproc" and "{" in call.texts:
        rest = rest[call.texts.index("{") + 1 :]
    skip = LEADING_OPERANDS.get(name, 0)
    takes_value = WRAPPERS[name]
    while rest:
        text = rest[0].text
        if name == "env" and re.match(r"-S|--split-string", text):
            joined = " ".join([re.sub(r"^(?:-S|--split-string=?)", "", text), *(word.text for word in rest[1:])])
            return _inner(call, [Word(part, rest[0].is_certain) for part in re.sub(r"['\"]", "", joined).split()])
        if (name == "start-stop-daemon" and text in ("-x", "--exec", "-a", "--startas")) or text == "--":
            rest.pop(0)
            if text == "--":
                break
            rest = [word for word in rest if word.text != "--"]
            break
        if re.match(r"-\w", text):
            rest.pop(0)
            if takes_value and re.fullmatch(rf"-[A-Za-z]*[{takes_value}]", text) and rest:
                rest.pop(0)
        elif text.startswith("--"):
            rest.pop(0)
            if "=" not in text and name in ("sudo", "nsenter") and text in ("--user", "--group", "--target") and rest:
                rest.pop(0)
        elif text == "{" or (name in ("env", "sudo", "doas", "time") and re.match(r"\w+=", text)):
            rest.pop(0)
        elif skip:
            rest.pop(0)
            skip -= 1
        else:
            break
    return _inner(call, rest)


def _inner(call: Call, rest: list[Word]) -> Call | None:
    settings = tuple(
        (word.text.split("=", 1)[0], Word(word.text.split("=", 1)[1], word.is_certain))
        for word in call.arguments
        if call.name in ("env", "sudo", "doas") and re.match(r"[A-Za-z_]\w*=", word.text)
    )
    return Call(tuple(rest), call.redirects, call.source, (*call.assignments, *settings)) if rest else None


def printed_by(call: Call) -> str | None:
    """What echo or printf prints, or None where another program prints or a value is unknown."""
    if call.name not in PRINTS or not all(word.is_certain for word in call.arguments):
        return None
    words = [text for text in call.texts if not re.fullmatch(r"-[neE]+", text)]
    if call.name == "echo" or not words:
        return unescape(" ".join(words)).replace("\0", "\n")
    form, values = unescape(words[0]), [unescape(word) if "%b" in words[0] else word for word in words[1:]]
    if "%" not in form:
        return form.replace("\0", "\n")
    text, places = "", max(1, len(re.findall(r"%[-\d.]*[sbqdicx]", form)))
    for start in range(0, max(1, len(values)), places):
        batch = iter(values[start : start + places])
        text += re.sub(r"%[-\d.]*[sbqdicx]", lambda _, batch=batch: next(batch, ""), form)  # type: ignore[misc]
    return text.replace("\0", "\n")


def passed_on(call: Call) -> list[Word] | None:
    """The words that xargs or parallel adds, or None where they are only known when it runs."""
    if ":::" in call.texts:
        return list(call.arguments[call.texts.index(":::") + 1 :])
    texts = [redirect.target.text for redirect in call.redirects if redirect.operator in ("<<", "<<<")]
    if call.source is not None:
        printed = printed_by(call.source)
        texts += [printed] if printed is not None else []
    return [Word(part) for text in texts for part in text.split()] if texts else None


def with_input(inner: Call, marker: str, added: list[Word]) -> Call:
    """`inner` as xargs would start it: the words in place of the marker, or at the end."""
    if not any(marker in word.text for word in inner.words):
        return Call((*inner.words, *added), inner.redirects, None, inner.assignments)
    joined = " ".join(word.text for word in added)
    words: list[Word] = []
    for word in inner.words:
        if word.text == marker and inner.name not in SHELLS:
            words += added
        else:
            words.append(Word(word.text.replace(marker, joined), word.is_certain, word.is_quoted))
    return Call(tuple(words), inner.redirects, None, inner.assignments)
