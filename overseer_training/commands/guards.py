"""Commands for the guards: what the access policy allows, and what the audit log holds."""

from __future__ import annotations

import argparse
import getpass
import pathlib
import sys
from typing import TYPE_CHECKING, Any

from overseer_training.config.flags import Parser
from overseer_training.errors import OverseerError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

ACTIONS = ("read", "train", "evaluate", "export", "send-to-endpoint", "delete")


def add(commands: Any) -> None:
    """Add the parsers of both topics."""
    parser = commands.add_parser("policy", help="who may do what with which data", allow_abbrev=False)
    actions = parser.add_subparsers(title="actions", metavar="ACTION", parser_class=Parser, required=True)
    actions.add_parser("show", help="the rules in force", allow_abbrev=False).set_defaults(run=_show_policy)
    check = actions.add_parser("check", help="whether a policy is sound", allow_abbrev=False)
    check.add_argument("files", nargs="*", type=pathlib.Path, help="of yours; those in force without any")
    check.set_defaults(run=_check_policy)
    explain = actions.add_parser(
        "explain", help="whether something is allowed, and which rule says so", allow_abbrev=False
    )
    explain.add_argument("action", choices=ACTIONS)
    explain.add_argument("source", help="corpus, tldr, manual, history, interactions, telemetry, kaggle or files")
    explain.add_argument("--endpoint", metavar="URL", help="where the data would go")
    explain.set_defaults(run=_explain_policy)

    audit = commands.add_parser("audit", help="what was done with data, models and keys", allow_abbrev=False)
    actions = audit.add_subparsers(title="actions", metavar="ACTION", parser_class=Parser, required=True)
    show = actions.add_parser("show", help="the entries", allow_abbrev=False)
    show.add_argument("--event", help="only of this kind, e.g. training")
    show.add_argument("--text", help="only those with this text")
    show.set_defaults(run=_show_audit)
    verify = actions.add_parser("verify", help="whether somebody changed the log", allow_abbrev=False)
    verify.add_argument("--known", metavar="LENGTH:HASH", help="a head that you wrote down earlier")
    verify.set_defaults(run=_verify_audit)


def _show_policy(flags: argparse.Namespace) -> int:
    from overseer_training.guards import policy

    print("\n".join(policy.show(policy.load_policy())))
    return 0


def _check_policy(flags: argparse.Namespace) -> int:
    from overseer_training.guards import policy

    problems = policy.check(policy.load_policy(files=tuple(flags.files)) if flags.files else policy.load_policy())
    for problem in problems:
        print(problem)
    print("sound" if not problems else f"{len(problems)} problems: everything is denied until they are mended")
    return UsageError.exit_code if problems else 0


def _explain_policy(flags: argparse.Namespace) -> int:
    from overseer_training.guards import policy
    from overseer_training.guards.resources import describe_data, describe_endpoint

    endpoint = describe_endpoint(flags.endpoint) if flags.endpoint else None
    explained = policy.explain(flags.action, describe_data(flags.source), endpoint)
    print(explained if isinstance(explained, str) else "\n".join(explained))
    return 0


def _show_audit(flags: argparse.Namespace) -> int:
    from overseer_training.guards.audit import AuditLog, format_entry

    for entry in AuditLog().entries(event=flags.event, text=flags.text or ""):
        print(format_entry(entry))
    return 0


def _verify_audit(flags: argparse.Namespace) -> int:
    from overseer_training.guards.audit import AuditLog

    try:
        public_key, locked = _audit_key(), None
    except OverseerError as error:  # the chain alone can be checked without it
        public_key, locked = None, error
    verified = AuditLog().verify(public_key, flags.known or "")
    for line in (*verified.problems, *verified.notes):
        print(line)
    print(AuditLog().head_line())
    if verified.problems:
        return 1
    if locked is not None:
        print(f"error: signatures were not checked: {locked}", file=sys.stderr)
        return locked.exit_code
    return 0


def _audit_key() -> Ed25519PublicKey | None:
    """The key that the log is signed with; None for a log that was never signed, and then none is made.

    Raises:
        OverseerError: the key cannot be opened, or is not there any more.
    """
    from overseer_training.guards.audit import AuditLog
    from overseer_training.guards.folders import state_folder
    from overseer_training.guards.keys import open_keys

    path = state_folder() / "keys.json"
    if path.exists():
        keys = open_keys(ask=getpass.getpass if sys.stdin.isatty() else None)
        if "signing:audit" in keys.names():
            return keys.signing_key("audit").public_key()
    if AuditLog().head_path.exists():
        raise UsageError(f"the log is signed, and its key is not in {path}; put back a copy of that file")
    return None
