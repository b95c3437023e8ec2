"""Who may do what: modes, owners, capabilities, accounts, passwords."""

from __future__ import annotations

import re
from collections.abc import Iterator

from overseer_training.guards.calls import (
    EDITORS,
    SHELLS,
    documents_of,
    is_interpreter,
    is_recursive,
    operands_of,
    values_of,
)
from overseer_training.guards.places import DEVICE, PERSONAL, RIGHTS, SECRET, STARTUP, VITAL, Place, place_of
from overseer_training.guards.rules.register import rule
from overseer_training.guards.shell import Call
from overseer_training.guards.verdicts import Verdict, ask, refuse

MODE = re.compile(r"[0-7]{1,5}|[ugoa]*[+=-][rwxXstugo]*(?:[,+=-][ugoa]*[+=-]?[rwxXstugo]*)*")
OPENS = re.compile(
    r"[0-7]?[0-7]?[0-7][2367]|[0-7]?[0-7][67][67]|.*(?:^|,)[ugoa]*[oa][ugo]*[+=]\w*w.*|\+\w*w\w*|.*ugo[+=]\w*w.*"
)
CLOSES = re.compile(r"0+|0?[0-6][0-7]{2}|[ua]?-\w*[rx]\w*|a-\w+|ugo-\w+|u?=")
AS_OWNER = re.compile(r"0*[4-7][0-7]{3}|.*[+=]\w*s\w*")
GROUP_ONLY = re.compile(r"0*2[0-7]{3}|g[+=]\w*s\w*")
ESCAPES = (
    SHELLS | EDITORS | {"find", "nano", "cp", "mv", "less", "more", "env", "tar", "nmap", "busybox", "dd", "tee", "sh"}
)
SITES = ("/var/www", "/srv", "/opt")
ADMIN_GROUPS = re.compile(r"(?:.*,)?(?:sudo|wheel|root|docker|admin|disk|shadow|lxd|libvirt|adm|kvm)(?:,.*)?")


@rule("chmod")
def _modes(call: Call, folder: str) -> Iterator[Verdict]:
    mode = next((text for text in call.texts if MODE.fullmatch(text) and not re.match(r"--|-R$|-v|-c|-f", text)), "")
    recursive = is_recursive(call)
    for word in call.arguments:
        if word.text == mode or word.text.startswith("--") or re.fullmatch(r"-[Rvcf]+", word.text):
            continue
        place = place_of(word, folder)
        base = place.path.rsplit("/", 1)[-1]
        opens, closes = OPENS.fullmatch(mode) is not None, CLOSES.fullmatch(mode) is not None
        if (
            place.is_critical
            and (recursive or place.is_content or opens or closes)
            and not _is_of_somebody(place, opens=opens, closes=closes)
        ):
            yield refuse(f"chmod on {word.shown} breaks the system or opens it to everybody")
        elif AS_OWNER.fullmatch(mode) and not GROUP_ONLY.fullmatch(mode):
            yield (refuse if base in ESCAPES or is_interpreter(base) else ask)(
                f"whoever starts {word.shown} gets the rights of its owner"
            )
        elif RIGHTS.fullmatch(place.path):
            yield (refuse if opens else ask)(f"{word.shown} decides who may do what")
        elif (
            place.path.startswith(("/root", "/boot"))
            or VITAL.fullmatch(place.path)
            or (place.path.startswith("/etc/") and (recursive or opens))
        ):
            yield ask(f"{word.shown} belongs to the system")
        elif DEVICE.fullmatch(place.path) or place.path in ("/dev/mem", "/dev/kvm"):
            yield ask("it opens a device to others")
        elif recursive and opens:
            yield ask("everybody could change everything there")
        elif re.search(r"(?:^|/)\.ssh$", place.path) and closes and not place.is_content:
            yield ask("nobody gets in with a key after that")
        elif re.search(r"\.git/hooks/", place.path):
            yield ask("git runs it without being asked")
        elif SECRET.fullmatch(place.path) and re.fullmatch(
            r"[0-7]?[0-7](?:[1-7][0-7]|[0-7][1-7])|[ugoa]*[goa][ugo]*[+=]\w+|\+\w+", mode
        ):
            yield ask("others could read a secret")
        elif any(text.startswith("--reference") for text in call.texts) and place.is_system:
            yield ask(f"{word.shown} belongs to the system")


def _is_of_somebody(place: Place, *, opens: bool, closes: bool) -> bool:
    """A folder in a home or of a web site, whose owner may well change modes in it, but not open or close it altogether."""
    owned = PERSONAL.fullmatch(place.path) is not None or place.path in SITES
    return owned and not opens and (not closes or place.is_content)


@rule("chown", "chgrp")
def _owners(call: Call, folder: str) -> Iterator[Verdict]:
    recursive = is_recursive(call)
    for word in operands_of(call)[1:]:
        place = place_of(word, folder)
        own = place.path.startswith(("/home/", "/Users/")) and not re.search(
            r"\b(?:root|nobody)\b", operands_of(call)[0].text
        )
        if place.path in SITES:
            continue
        if place.is_critical and (recursive or place.is_content) and not own:
            yield refuse(f"{call.name} on {word.shown} breaks the system")
        elif place.is_critical and place.is_system:
            yield ask(f"{word.shown} belongs to the system")
        elif RIGHTS.fullmatch(place.path):
            yield refuse(f"{word.shown} decides who may do what")
        elif VITAL.fullmatch(place.path) or (place.path.startswith(("/etc/", "/usr/", "/root")) and recursive):
            yield ask(f"{word.shown} belongs to the system")
        elif DEVICE.fullmatch(place.path):
            yield ask("it opens a device to others")


@rule("chattr", "setfacl", "setcap", "chcon", "install", "mknod", "chflags")
def _finer_rights(call: Call, folder: str) -> Iterator[Verdict]:
    name = call.name
    if name == "setcap":
        if not {"-r", "-v"} & set(call.texts):
            strong = re.search(
                r"cap_(?:setuid|setgid|sys_admin|dac|sys_ptrace|sys_module|chown|fowner|setfcap)|all",
                " ".join(call.texts),
            )
            if strong:
                yield refuse("whoever starts the program could become root")
    elif name == "install":
        for word in values_of(call, "-m", "--mode"):
            if AS_OWNER.fullmatch(word.text) and not GROUP_ONLY.fullmatch(word.text):
                yield refuse("whoever starts the program gets the rights of its owner")
    elif name == "mknod":
        if {"b", "c"} & set(call.texts):
            yield ask("it opens a device of the machine")
    else:
        for word in operands_of(call):
            place = place_of(word, folder)
            if place.is_critical or RIGHTS.fullmatch(place.path) or SECRET.fullmatch(place.path):
                yield ask(f"it changes who may read or change {word.shown}")
            elif (VITAL.fullmatch(place.path) or STARTUP.fullmatch(place.path)) and name != "setfacl":
                yield ask(f"it changes who may change {word.shown}")


@rule(
    "useradd",
    "adduser",
    "usermod",
    "userdel",
    "deluser",
    "groupdel",
    "delgroup",
    "gpasswd",
    "chage",
    "newusers",
    "groupmod",
    "addgroup",
)
def _accounts(call: Call, folder: str) -> Iterator[Verdict]:
    name, joined = call.name, " ".join(call.texts)
    if name in ("useradd", "usermod", "adduser") and re.search(
        r"(?:^|\s)(?:-\w*u|--uid)[\s=]*0+(?:\s|$)|(?:^|\s)(?:-\w*o|--non-unique)\s", joined
    ):
        yield refuse("a second root account is a back door")
    elif name in ("userdel", "deluser", "groupdel", "delgroup"):
        yield ask("an account or a group goes, maybe with its files")
    elif any(ADMIN_GROUPS.fullmatch(text) for text in call.texts if not text.startswith("-")) and name not in (
        "chage",
        "groupmod",
    ):
        yield ask("it changes what an administrator's account or group may do")
    elif name in ("useradd", "usermod") and re.search(r"(?:^|\s)(?:-p|--password)\b", joined):
        yield ask("it sets a password that others can read")
    elif name == "usermod" and re.search(
        r"(?:^|\s)(?:-\w*[LUl]|--lock|--unlock|--login)\b|nologin|/bin/false|--expiredate|-e\s", joined
    ):
        yield ask("somebody gets in no more, or again")
    elif name == "chage" and not re.search(r"(?:^|\s)(?:-l|--list)", joined):
        yield ask("it changes until when somebody gets in")
    elif name == "newusers":
        yield ask("it makes many accounts at once")


@rule("passwd", "chpasswd", "visudo", "vipw", "vigr", "chsh")
def _passwords(call: Call, folder: str) -> Iterator[Verdict]:
    name, joined = call.name, " ".join(call.texts)
    if name == "chpasswd":
        yield ask("it changes passwords")
    elif name == "passwd":
        if re.search(r"(?:^|\s)-\w*[delux]\b|--(?:delete|lock|unlock|expire|stdin)|(?:^|\s)-[a-z]*S?l\b", joined):
            yield ask("somebody gets in without a password, or not any more")
        elif call.source is not None or list(documents_of(call)) or "root" in call.texts:
            yield ask("it sets the password of an administrator, or one that stands in the command")
    elif name in ("visudo", "vipw", "vigr"):
        if not re.search(r"(?:^|\s)(?:-c|--check|-\w*c\w*)(?:\s|$)", joined):
            yield ask("it decides who may do what")
    elif any(text.startswith(("/tmp", "/bin/false")) or text.endswith("nologin") for text in call.texts):
        yield ask("somebody cannot log in any more")


@rule("dscl", "sysadminctl", "dseditgroup", "security", "tccutil", "fdesetup")
def _accounts_of_macos(call: Call, folder: str) -> Iterator[Verdict]:
    joined = " ".join(call.texts)
    if re.search(
        r"(?i)delete|-append|-create|-change|-passwd|-merge|-addUser|-resetPassword|secureToken|-o edit|\breset\b|\bdisable\b|authorizationdb",
        joined,
    ):
        yield ask("it changes accounts or what they may do")
    elif call.name == "security" and re.search(r"find-\w+-password|dump-keychain|\bexport\b", joined):
        yield ask("it shows passwords")


@rule("gpg", "ssh-keygen", "pass", "secret-tool", "unshadow", "kubectl", "oc")
def _keys(call: Call, folder: str) -> Iterator[Verdict]:
    joined = " ".join(call.texts)
    if call.name == "gpg" and re.search(r"--export-secret", joined):
        yield ask("it shows private keys")
    elif call.name == "unshadow":
        yield ask("it prepares passwords to be guessed")
    elif call.name in ("kubectl", "oc") and re.search(r"\bget\s+secrets?\b.*(?:-A|--all-namespaces)", joined):
        yield ask("it shows all secrets of a cluster")
