"""Finds secrets in commands and requests, so that they are left out before anything is stored or learned.

Takes a text; gives the kind of the first secret in it. A value that is a variable, a placeholder or a path is none.
"""

from __future__ import annotations

import re

# The forms of tokens are those that their issuers publish.
TOKENS = {
    "AWS key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "GitHub token": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{40,})",
    "GitLab token": r"\bglpat-[\w-]{20,}",
    "Slack token": r"\bxox[abposr]-[\w-]{10,}",
    "API key": r"\b(?:sk|pk|rk)[-_](?:live[-_]|test[-_]|proj[-_]|ant[-_])?[A-Za-z0-9_-]{20,}",
    "Google key": r"\bAIza[\w-]{35}",
    "npm token": r"\bnpm_[A-Za-z0-9]{36}",
    "PyPI token": r"\bpypi-[\w-]{50,}",
    "Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}",
    "private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
    "JSON web token": r"\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{5,}",
}
NAMED = re.compile(
    r"(?ix) (?:^|[\s\"'?&;:{,(_-]) (?:[\w-]*(?:pass(?:word|wd|phrase)|_pass|secret|token|api[_-]?key|access[_-]?key|auth|credentials?))"
    r"[\"']? \s*(?:=|:\s|\s(?=[\"'])) \s* [\"']? (?P<value>[^\s\"'&;|)]{4,})"
)
OPTION = re.compile(
    r"(?ix) (?:--(?:password|passwd|pass|token|secret|api-key|auth-token|proxy-password)(?:=|\s+)|\bsshpass\s+-p\s*|\bmysql\w*\s(?:[^|;&]*\s)?-p(?=\S))"
    r"[\"']? (?P<value>[^\s\"'|;&]{3,})"
)
IN_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s/:@]+:(?P<value>[^\s/@]{3,})@")
IN_LOGIN = re.compile(r"(?:\bcurl\b|\bwget\b)[^|;&]*\s(?:-u|--user)[ =]?[\"']?[^\s:\"']+:(?P<value>[^\s\"']{3,})")
IN_HEADER = re.compile(r"(?i)authorization:\s*(?:bearer|basic|token)\s+(?P<value>[^\s\"']{6,})")
NO_VALUE = re.compile(
    r"(?i)^(?:\$\w+|\$\{.*|\$\(.*|<.*|\{.*|%\w+%|\[.*|/.*|~.*|\./.*|-.*|x{3,}|\*+|\.{3,}"
    r"|(?:your|my|the|some|new|old|a)?[-_]?(?:password|passwd|secret|token|key|value|here|string|file|prompt|stdin|none|null|true|false|yes|no|required|optional)s?)$"
)


def find_secret(text: str) -> str | None:
    """The kind of the first secret in `text`, or None."""
    for kind, pattern in TOKENS.items():
        if re.search(pattern, text):
            return kind
    for kind, form in (
        ("password in an address", IN_ADDRESS),
        ("login", IN_LOGIN),
        ("authorization header", IN_HEADER),
        ("password option", OPTION),
        ("named secret", NAMED),
    ):
        if any(not NO_VALUE.match(match["value"]) for match in form.finditer(text)):
            return kind
    return None
