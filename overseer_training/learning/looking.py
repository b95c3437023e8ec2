"""Which commands only look: what they leave behind cannot be the reason why the machine changed.

Takes a command; says whether all its programs only read and print. What is not known acts.
"""

from __future__ import annotations

from overseer_training.guards.calls import EDITORS
from overseer_training.guards.shell import Call, read_script
from overseer_training.guards.wrappers import unwrap

# Editors, pagers and terminals are here too: what they change is not disk use, memory or load.
LOOKS = {
    *EDITORS,
    *("ls", "ll", "la", "dir", "tree", "exa", "eza", "lsd", "stat", "file", "cat", "bat", "batcat", "less", "more"),
    *("most", "head", "tail", "wc", "nl", "grep", "egrep", "fgrep", "zgrep", "rg", "ag", "ack", "fd", "fdfind", "locate"),
    *("du", "df", "ncdu", "dust", "duf", "gdu", "free", "top", "htop", "btop", "atop", "glances", "ps", "pstree"),
    *("pgrep", "pidof", "procs", "uptime", "w", "who", "whoami", "id", "groups", "last", "date", "cal", "uname"),
    *("hostname", "hostnamectl", "lscpu", "lsblk", "lsusb", "lspci", "lsmod", "lsof", "findmnt", "vmstat", "iostat"),
    *("mpstat", "sar", "iotop", "dstat", "ss", "netstat", "ping", "dig", "host", "nslookup"),
    *("traceroute", "mtr", "history", "man", "info", "tldr", "which", "type", "whereis", "whatis", "apropos", "command"),
    *("help", "echo", "printf", "pwd", "cd", "pushd", "popd", "dirs", "clear", "reset", "exit"),
    *("logout", "env", "printenv", "alias", "jobs", "test", "true", "false", "sleep", "watch", "sort", "uniq"),
    *("cut", "tr", "column", "diff", "cmp", "md5sum", "sha256sum", "strings", "xxd", "od", "jq", "yq"),
    *("nano", "micro", "hx", "helix", "code", "ssh"),
    *("mosh", "tmux", "screen", "dmesg", "tailf", "overseer"),
}  # fmt: skip
LOOKS_WITH = {  # programs that only look when their first operand is one of these
    "systemctl": {"status", "show", "cat", "is-active", "is-enabled", "is-failed", "list-units", "list-timers", "list-unit-files", "list-sockets"},
    "docker": {"ps", "images", "logs", "stats", "inspect", "info", "version", "top", "port", "history", "events"},
    "podman": {"ps", "images", "logs", "stats", "inspect", "info", "version", "top", "port", "history"},
    "kubectl": {"get", "describe", "logs", "top", "explain"},
    "git": {"status", "log", "diff", "show", "branch", "remote", "blame", "grep", "ls-files", "shortlog", "reflog"},
    "apt": {"list", "search", "show", "policy"},
    "apt-cache": {"search", "show", "policy", "depends", "rdepends", "madison"},
    "dpkg": {"-l", "-L", "-S", "-s"},
    "ip": {"a", "addr", "address", "r", "route", "link", "neigh", "-br"},
    "pip": {"list", "show", "freeze"},
    "brew": {"list", "info", "search", "outdated"},
}  # fmt: skip
ACTS_WITH = {  # programs that only look but for these words
    "find": ("-delete", "-exec", "-execdir", "-ok", "-okdir", "-fprint", "-fprintf", "-fls"),
    "journalctl": ("--vacuum", "--rotate", "--flush", "--relinquish-var", "--sync"),
    "sed": ("-i", "--in-place"),
    "sysctl": ("-w", "-p", "--write", "--load", "--system"),
    "swapon": ("-a", "--all", "/"),
}


def only_looks(command: str) -> bool:
    """Whether nothing in `command` acts: no program but those that read and print, and no file written."""
    script = read_script(command)
    return bool(script.calls) and script.is_whole and all(map(_looks, script.calls))


def _looks(call: Call) -> bool:
    if any(one.operator in (">", ">>", ">|") and one.target.text != "/dev/null" for one in call.redirects):
        return False
    while (inner := unwrap(call)) is not None:
        call = inner
    if call.name in LOOKS_WITH:
        return bool(LOOKS_WITH[call.name] & set(call.texts[:2]))
    if call.name in ACTS_WITH:
        return not any(text.startswith(ACTS_WITH[call.name]) for text in call.texts)
    return call.name in LOOKS
