"""Decides who may do what with which data, by a Cedar policy that a person can read and replace.

Takes a principal (a login name), an action and a data set, and for sending an endpoint; gives a decision with its reasons. The packaged
default.cedar applies unless the configuration folder has a policy.cedar; files in policy.d/ add rules. A policy that cannot be read,
parsed or checked against schema.cedarschema, or a rule that fails while it is evaluated, denies everything. `describe_data` and
`describe_endpoint` in resources.py make what is asked about.

Not covered: a policy binds this program. It keeps nobody from opening the same files with another one.

Source: the Cedar policy language, as cedarpy evaluates it.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import json
import pathlib
import re
from typing import Any, Literal, get_args

import cedarpy

from overseer_training.errors import UsageError
from overseer_training.guards.folders import config_folder, find_foreign_writers
from overseer_training.guards.resources import (
    SENSITIVITIES,
    DataSet,
    Endpoint,
    current_user,
    describe_data,
    describe_endpoint,
)

Action = Literal["read", "train", "evaluate", "export", "send-to-endpoint", "delete"]
ACTIONS: tuple[Action, ...] = get_args(Action)
SEND: Action = "send-to-endpoint"
NO_RULE = "no rule of the policy permits it"
ELSEWHERE = Endpoint("another machine", (), False)
LEXEME = re.compile(r'"(?:[^"\\]|\\.)*"|//[^\n]*|;')


@dataclasses.dataclass(frozen=True)
class Rule:
    """One statement of a policy, and where it stands."""

    text: str
    place: str
    identifier: str = ""
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Policy:
    """The rules in force.

    Attributes:
        problem: one line that says where the policy is broken; then it denies everything. Empty for a sound policy.
    """

    rules: tuple[Rule, ...]
    files: tuple[str, ...]
    problem: str = ""

    @property
    def text(self) -> str:
        return "\n".join(rule.text for rule in self.rules)


@dataclasses.dataclass(frozen=True)
class Decision:
    """What the policy says, and the rules that say it."""

    allowed: bool
    reasons: tuple[str, ...]


def load_policy(folder: pathlib.Path | None = None, files: tuple[pathlib.Path, ...] = ()) -> Policy:
    """The policy of `files`, or of the configuration `folder`; never raises, since a broken policy must deny.

    Args:
        folder: with policy.cedar, which replaces the packaged rules, and policy.d/*.cedar, which add; this user's by default.
        files: replace all of that.
    """
    folder = folder or config_folder()
    own = folder / "policy.cedar"
    paths = files or ((own,) if own.is_file() or own.is_symlink() else ())
    paths += () if files else tuple(sorted((folder / "policy.d").glob("*.cedar")))
    texts = {} if files or own in paths else {"default.cedar": _packaged("default.cedar")}
    for path in paths:
        try:
            problem = find_foreign_writers(path) or find_foreign_writers(path.parent)
            if problem:
                return Policy((), (str(path),), problem)
            texts[str(path)] = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            return Policy((), (str(path),), f"the policy {path} cannot be read: {error}; mend or remove it")
    return parse_policy(texts)


def parse_policy(texts: dict[str, str]) -> Policy:
    """The policy made of `texts`, name of a file -> rules."""
    rules: list[Rule] = []
    for name, text in texts.items():
        for line, statement in split_statements(text):
            place = f"{name} line {line}"
            try:
                document = json.loads(cedarpy.policies_to_json_str(statement))
            except ValueError as error:
                return Policy((), tuple(texts), f"{place}: {_one_line(error)}; mend this rule")
            if document["templates"] or len(document["staticPolicies"]) != 1:
                return Policy((), tuple(texts), f"{place}: ?principal and ?resource are not filled in here; name them")
            notes = document["staticPolicies"]["policy0"].get("annotations", {})
            checked = cedarpy.validate_policies(statement, _schema())
            if not checked:
                said = re.sub(r"^for policy `policy0`, ", "", _one_line(checked.errors[0].error))
                return Policy((), tuple(texts), f"{place}: {said}; mend this rule")
            rules.append(Rule(statement, place, notes.get("id") or "", notes.get("reason") or ""))
    return Policy(tuple(rules), tuple(texts))


def split_statements(text: str) -> list[tuple[int, str]]:
    """(line that it begins on, statement) of Cedar `text`; cedarpy says which statement is wrong, and not where it is."""
    found, start = [], 0
    for lexeme in LEXEME.finditer(text):
        if lexeme[0] == ";":
            found.append((start, text[start : lexeme.end()]))
            start = lexeme.end()
    found.append((start, text[start:]))
    statements = []
    for offset, statement in found:
        lead = re.match(r"(?:\s|//[^\n]*)*", statement)
        begin = lead.end() if lead else 0
        if statement[begin:]:
            statements.append((text.count("\n", 0, offset + begin) + 1, statement[begin:]))
    return statements


def decide(
    principal: str, action: Action, resource: DataSet, endpoint: Endpoint | None = None, policy: Policy | None = None
) -> Decision:
    """Whether the user `principal` may do `action` with `resource`.

    Args:
        endpoint: where it would go; needed for send-to-endpoint, and for nothing else.
        policy: the one in force when None.
    """
    policy = load_policy() if policy is None else policy
    if policy.problem:
        return Decision(False, (f"the policy is broken, so everything is denied: {policy.problem}",))
    if (action == SEND) != (endpoint is not None):
        return Decision(False, ("sending needs an endpoint, and other actions have none",))
    user, data = {"type": "User", "id": principal}, {"type": "DataSet", "id": str(resource)}
    source, goal = {"type": "Source", "id": resource.source}, {"type": "Endpoint", "id": "endpoint"}
    owner = {"__entity": {"type": "User", "id": resource.owner}}
    sensitivity = {"__entity": {"type": "Sensitivity", "id": resource.sensitivity}}
    entities: list[dict[str, Any]] = [
        {"uid": data, "attrs": {"sensitivity": sensitivity, "owner": owner}, "parents": [source]},
    ]
    context: dict[str, Any] = {}
    if endpoint is not None:
        attributes = {"host": endpoint.host, "loopback": endpoint.is_loopback}
        entities.append({"uid": goal, "attrs": attributes, "parents": []})
        context = {"endpoint": {"__entity": goal}}
    request = {"principal": user, "action": {"type": "Action", "id": action}, "resource": data, "context": context}
    try:
        answer = cedarpy.is_authorized(request, policy.text, entities, _schema())
    except (ValueError, TypeError) as error:
        return Decision(False, (f"the policy cannot decide this: {_one_line(error)}",))
    # Cedar leaves out a rule that fails; one that forbids must not vanish like that.
    if answer.diagnostics.errors:
        return Decision(False, (f"a rule failed: {_one_line(answer.diagnostics.errors[0])}",))
    rules = [policy.rules[int(name.removeprefix("policy"))] for name in answer.diagnostics.reasons]
    return Decision(answer.allowed, tuple(_say(rule) for rule in rules) or (NO_RULE,))


def require(
    action: Action,
    resource: DataSet,
    endpoint: Endpoint | None = None,
    principal: str | None = None,
    policy: Policy | None = None,
) -> Decision:
    """The decision, when it allows `action` to `principal` (this user when None).

    Raises:
        UsageError: it does not.
    """
    principal = principal or current_user()
    decision = decide(principal, action, resource, endpoint, policy)
    if not decision.allowed:
        goal = f" ({endpoint.host})" if endpoint else ""
        raise UsageError(
            f"the policy does not allow {principal} to {action}{goal} with {resource}: {'; '.join(decision.reasons)}; "
            "see overseer policy show"
        )
    return decision


def may_send(resource: DataSet, host: str, policy: Policy | None = None) -> bool:
    """Whether this user may send `resource` to `host`, which may be an IPv6 address."""
    endpoint = describe_endpoint(f"https://[{host}]" if ":" in host else f"https://{host}")
    return decide(current_user(), SEND, resource, endpoint, policy).allowed


def show(policy: Policy) -> list[str]:
    """Lines for `overseer policy show`: where the rules come from, the rules, and what they decide for each source."""
    if policy.problem:
        return [f"everything is denied: {policy.problem}"]
    lines = [f"// from {', '.join(policy.files)}", *policy.text.splitlines(), ""]
    user = current_user()
    columns = [*ACTIONS[:4], "delete", "send here", "send elsewhere"]
    lines.append("// " + " ".join(f"{name:<13}" for name in ("", *columns)).rstrip())
    here = Endpoint("localhost", ("127.0.0.1",), True)
    for source in SENSITIVITIES:
        data = describe_data(source)
        asked: list[tuple[Action, Endpoint | None]] = [(action, None) for action in ACTIONS if action != SEND]
        cells = [decide(user, *question[:1], data, question[1], policy).allowed for question in asked]
        cells += [decide(user, SEND, data, goal, policy).allowed for goal in (here, ELSEWHERE)]
        lines.append(
            "// " + " ".join(f"{cell:<13}" for cell in (source, *("yes" if c else "no" for c in cells))).rstrip()
        )
    return lines


def check(policy: Policy) -> list[str]:
    """Problems for `overseer policy check`; none for a sound policy."""
    return [policy.problem] if policy.problem else []


def explain(
    action: Action,
    resource: DataSet,
    endpoint: Endpoint | None = None,
    principal: str | None = None,
    policy: Policy | None = None,
) -> list[str]:
    """Lines for `overseer policy explain`: the decision, what it was about, and each rule behind it."""
    principal = principal or current_user()
    decision = decide(principal, action, resource, endpoint, policy)
    lines = [f"{'allowed' if decision.allowed else 'denied'}: {principal}, {action}, {resource}"]
    lines.append(f"  {resource} is {resource.sensitivity} and belongs to {resource.owner}")
    if endpoint:
        kind = "this machine" if endpoint.is_loopback else "another machine"
        lines.append(f"  {endpoint.host} is {kind} ({', '.join(endpoint.addresses) or 'not resolved'})")
    return lines + [f"  because: {reason}" for reason in decision.reasons]


def _say(rule: Rule) -> str:
    said = rule.reason or rule.identifier or "a rule"
    return f"{said} ({rule.place})"


def _packaged(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


@functools.cache
def _schema() -> cedarpy.Schema:
    return cedarpy.Schema.from_str(_packaged("schema.cedarschema"))


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:300]
