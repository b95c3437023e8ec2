"""Version control: what loses work that is not saved, or history that others rely on, and what git runs by itself."""

from __future__ import annotations

import re
from collections.abc import Iterator

from overseer_training.guards.rules.register import rule
from overseer_training.guards.shell import Call
from overseer_training.guards.verdicts import Verdict, ask

REWRITES = re.compile(
    r"\bpush\b.*(?:--force(?!-with-lease|-if)|\s-\w*f\b|--mirror|--delete\b|\s-d\b|--prune|\s:\S|\s\+\S)|\bfilter-(?:branch|repo)\b"
    r"|\breflog\s+(?:expire|delete)|\bgc\b.*--prune=(?:now|all)|\bupdate-ref\s+-d|\breplace\b|\bprune\b(?!.*-n)(?=.*--expire)"
)
LOSES_WORK = re.compile(
    r"\breset\b.*--(?:hard|merge|keep)|\bclean\b.*\s-\w*f|\bstash\s+(?:clear|drop)|\bcheckout\b.*(?:\s--\s+\.|\s\.$|\s-\w*f\b|--force)"
    r"|\brestore\b(?!.*--staged)\s+(?:.*\s)?(?:\.|:/|\*|--worktree)(?:\s|$)|\bbranch\b.*(?:\s-\w*D|--delete\s+--force)"
    r"|\bswitch\b.*(?:--discard-changes|\s-f\b|--force)|\bworktree\s+remove\b.*(?:--force|\s-f)|\btag\s+-d\s+\$\(|\brm\b.*\s-\w*r\w*f?\s+(?:\.|\*)"
    r"|\brebase\b.*--root|\bread-tree\b.*--reset|\bcheckout-index\b.*-\w*f"
)
RUNS = re.compile(
    r"core\.(?:sshCommand|fsmonitor|askPass|gitProxy)[=\s]+\S|core\.(?:pager|editor)[=\s]+.*(?:[;|&$`(]|\b(?:ba|z|da)?sh\s|/tmp/)|credential\.helper[=\s]+['\"]?!"
    r"|alias\.\w+[=\s]+['\"]?!|diff\.external|(?:filter|diff|merge)\.\S+\.(?:clean|smudge|textconv|driver|process)|uploadpack|--upload-pack"
    r"|--receive-pack|--exec=|--exec-path=|protocol\.ext\.allow|ext::|--open-files-in-pager|url\..*insteadof|core\.hooksPath",
    re.IGNORECASE,
)
UNCHECKED = re.compile(r"http\.sslVerify[=\s]+(?:false|0)|safe\.directory[=\s]+['\"]?\*", re.IGNORECASE)


@rule("git")
def _git(call: Call, folder: str) -> Iterator[Verdict]:
    joined = " ".join(call.texts)
    message = (
        re.sub(r"\s(?:-m|-am|--message|-\w*m)\s.*", "", joined)
        if re.search(r"\b(?:commit|tag|stash|notes|merge)\b", joined)
        else joined
    )
    if REWRITES.search(message):
        yield ask("it changes or erases history that others may rely on")
    if LOSES_WORK.search(message):
        yield ask("work that is not saved elsewhere goes")
    if RUNS.search(message):
        yield ask("git would run another program")
    if UNCHECKED.search(message):
        yield ask("connections would not be checked")


@rule("svn", "hg", "bzr", "jj", "repo")
def _others(call: Call, folder: str) -> Iterator[Verdict]:
    if re.search(
        r"\brevert\b.*(?:-R|--recursive|--all|-a|-C)|\bupdate\b.*(?:-C|--clean)|\bstrip\b|\bpurge\b|\bforall\b",
        " ".join(call.texts),
    ):
        yield ask("work that is not saved elsewhere goes")
