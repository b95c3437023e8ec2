"""What removes files: rm and its kin, moving away, mirrors that delete, archives that delete what they took in."""

from __future__ import annotations

import re
from collections.abc import Iterator

from overseer_training.guards.calls import has_flag, is_recursive, operands_of
from overseer_training.guards.places import DEVICE, HISTORY, PERSONAL, RECORDS, RIGHTS, STARTUP, VITAL, Place, place_of
from overseer_training.guards.rules.register import rule
from overseer_training.guards.shell import Call
from overseer_training.guards.verdicts import Verdict, ask, refuse
from overseer_training.guards.words import Word

ONLY_UNKNOWN = re.compile(r"(?:\$\{?[\w@*]+\}?|\$\(.*\)|`.*`)+/*", re.DOTALL)
UNKNOWN_ROOT = re.compile(r"(?:\$\{?\w+\}?|\$\([^)]*\)|`[^`]*`)/+(?:[*.]|$)|(?:\$\{?\w+\}?)\*")
POSITIONAL = re.compile(r"\$\{?[\d@*]\}?(?:/.*)?")


@rule("rm", "shred", "unlink", "srm", "trash", "trash-put", "wipe", "rimraf")
def removes(call: Call, folder: str) -> Iterator[Verdict]:
    """Files named on the command line."""
    if any(text.startswith("--no-pres") for text in call.texts):
        yield refuse("it switches off what keeps rm from erasing the whole system")
    recursive = is_recursive(call) or call.name in ("srm", "wipe", "trash", "trash-put", "rimraf")
    for word in operands_of(call):
        yield from removed(word, place_of(word, folder), recursive=recursive)


def removed(word: Word, place: Place, *, recursive: bool) -> Iterator[Verdict]:
    """Verdicts for a place that goes, with all that is in it where `recursive`."""
    shown = word.shown
    wide = recursive or place.is_content
    if DEVICE.fullmatch(place.path):
        yield refuse(f"it destroys what is on the disk {shown}")
    elif place.is_critical and wide:
        personal = PERSONAL.fullmatch(place.path) is not None
        yield (ask if personal else refuse)(
            f"it erases {shown}, which holds somebody's own files" if personal else f"it erases {shown}: the system or all of somebody's files"
        )  # fmt: skip
    elif RIGHTS.fullmatch(place.path) or VITAL.fullmatch(place.path):
        yield refuse(f"the system does not work without {shown}")
    elif HISTORY.fullmatch(place.path):
        yield ask("it erases the record of commands")
    elif RECORDS.fullmatch(place.path):
        yield ask(f"{shown} is a record of what happened")
    elif place.is_system:
        yield ask(f"{shown} belongs to the system")
    elif STARTUP.fullmatch(place.path) and place.path.endswith("authorized_keys"):
        yield ask(f"without {shown} nobody gets in with a key")
    elif re.search(r"/\.(?:ssh|gnupg|aws|kube|password-store)(?:/|$)", place.path):
        yield ask(f"{shown} cannot be made again")
    elif re.search(r"(?:^|/)\.(?:git|hg|svn)(?:/(?:objects|refs|store))?$", place.path) and recursive:
        yield ask("the whole history of the project goes")
    elif place.is_here and wide:
        yield ask("it erases everything here, wherever that is")
    elif not word.is_certain and wide and re.match(r"\$\{\w+:?\?", word.text) is None:
        if POSITIONAL.fullmatch(word.text) or re.search(r"\$\{[^}]*\[", word.text):
            yield ask("what it removes is only known when it runs")
        elif UNKNOWN_ROOT.match(word.text):
            yield ask(f"if the variable in {shown} is empty, everything goes")
        elif (
            ONLY_UNKNOWN.fullmatch(word.text) and (not word.is_quoted or "$(" in word.text or "`" in word.text)
        ) or re.search(r"\$\{\w+[^\w}]", word.text):
            yield ask("what it removes is only known when it runs")


@rule("mv")
def _moves(call: Call, folder: str) -> Iterator[Verdict]:
    operands = operands_of(call)
    for word in operands[:-1]:
        place = place_of(word, folder)
        if PERSONAL.fullmatch(place.path) and not place.is_content:
            yield ask(f"programs look for {word.shown} where it is")
        elif place.is_critical and PERSONAL.fullmatch(place.path) is None:
            yield refuse(f"it takes away {word.shown}, which the system or its users need")
        elif RIGHTS.fullmatch(place.path) or VITAL.fullmatch(place.path) or RECORDS.fullmatch(place.path):
            yield refuse(f"it takes away {word.shown}, which the system needs")
        elif re.match(r"/(?:usr|var/lib|var/spool|var/mail|lib|opt)/", place.path):
            yield ask(f"it takes away {word.shown}")
    if operands and operands[-1].text == "/dev/null":
        yield refuse("what is moved to /dev/null is lost")


@rule("rsync", "rclone")
def _mirrors(call: Call, folder: str) -> Iterator[Verdict]:
    operands = operands_of(call)
    if not operands:
        return
    target = place_of(operands[-1], folder)
    if any(re.match(r"--del(?:ete)?", text) for text in call.texts):
        empty = any(re.search(r"(?:^|/)(?:empty|blank|null)\w*/?$", word.text) for word in operands[:-1])
        if target.is_critical or re.fullmatch(r"[^/:]+:+/?", operands[-1].text) or empty:
            yield (refuse if target.is_critical else ask)(f"it empties {operands[-1].shown}")
    if "--remove-source-files" in call.texts and any(place_of(word, folder).is_critical for word in operands[:-1]):
        yield ask("it removes what it copied")
    if call.name == "rclone" and set(call.texts) & {"purge", "delete", "cleanup", "rmdirs"}:
        yield ask("it removes files from a remote store")


@rule("zip", "7z", "7za", "7zz", "rar", "tar", "bsdtar", "gtar")
def _archives_that_remove(call: Call, folder: str) -> Iterator[Verdict]:
    zips = call.name == "zip" and (has_flag(call, "m", "--move") or "-rm" in call.texts)
    packs_and_removes = {"-sdel", "--remove-files", *(("-df", "-dw") if call.name == "rar" else ())}
    if zips or packs_and_removes & set(call.texts):
        yield ask("it removes the files that it packs")


@rule("trash-empty", "gio", "osascript", "gpg", "git-annex", "ccrypt", "gocryptfs", "mcrypt")
def _others_that_remove(call: Call, folder: str) -> Iterator[Verdict]:
    name = call.name
    if name == "trash-empty" or (name == "gio" and "--empty" in call.texts):
        yield ask("what is in the trash is gone for good")
    elif name == "gio" and call.texts[:1] in (("trash",), ("remove",)):
        for word in operands_of(call)[1:]:
            yield from removed(word, place_of(word, folder), recursive=True)
    elif name in ("ccrypt", "mcrypt") and not has_flag(call, "dc", "--decrypt", "--cat"):
        yield ask("it encrypts files in place")
    elif name == "gpg" and any(text.startswith("--delete-") for text in call.texts):
        yield ask("a key cannot be made again")
