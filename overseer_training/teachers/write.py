"""What teachers write: further wordings, new requests with commands, follow-up turns, repairs, explanations, commands.

Takes what a row is to be made from; gives an `Assignment` (messages and the JSON schema of the answer) and reads the answer into
`Proposal`s. A proposal is no row yet: nobody has run its commands.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import pydantic

from overseer_training.prompts import EXPLAIN_REQUEST, REPAIR_REQUEST
from overseer_training.records import Platform, Turn
from overseer_training.teachers.protocol import Message

Kind = Literal["paraphrase", "pair", "follow_up", "repair", "explanation", "answer"]
SHELLS: dict[Platform, str] = {"linux": "Linux with bash and GNU tools", "macos": "macOS with zsh and BSD tools"}
LONGEST_PAGE = 12_000  # characters of a manual page, about 3,000 tokens; what comes later is cut
LONGEST_STDERR = 600  # characters
LONGEST_LINE = 400  # characters; the longest command of the corpus has less than half
MARKUP = re.compile(r"^(?:[$#>] |```|`)|`$")  # a prompt sign or a code block around a command
VALUE = re.compile(r"(?<![\w-])[A-Za-z0-9_][\w./~@:+-]*")  # in a command; what follows a hyphen is an option
WITH_SUBCOMMANDS = "git|systemctl|docker|podman|kubectl|apt|apt-get|dnf|pacman|brew|snap|pip|npm|cargo|ip|nmcli|ufw"
PROGRAM = re.compile(
    r"(?:^|[|;&(]\s*|\b(?:sudo|xargs|do|then)\s+)(?:sudo\s+)?(?:(?:" + WITH_SUBCOMMANDS + r")\s+[a-z-]+|[\w./-]+)"
)
OPTION = re.compile(r"(?:^|\s)--?[A-Za-z]")
WORD = re.compile(r"[^\W\d_]{2}")
NUMBER = re.compile(r"(?<![\w.])\d+")  # not the 4 of mp4
WHOLE_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)*")  # 1.5 and 10.0.0.1 too
DIGITS = re.compile(r"\d+")

SYSTEM = (
    "You write examples for a small model that turns requests into shell commands for {shell}. A command is one line that can be "
    "pasted as it is: no placeholders, no prompt sign, no comment, nothing that opens an editor or waits for keys. Answer with JSON "
    "of this form and nothing else: {form}"
)
TEMPLATES: dict[Kind, str] = {
    "paraphrase": (
        "Write {count} other wordings of a request. Vary length, tone and grammar: orders, questions, notes in a hurry. Each must ask "
        "for exactly what the command does, no more and no less, and keep every name, path and number letter for letter.\n\n"
        "Request: {request}\nCommand: {command}"
    ),
    "pair": (
        "Write {count} different tasks that people solve with {tool}, each as a request in plain words and the command. A request names "
        "every file, number and name that its command holds, and not the options. Use only options that the manual has.\n\n"
        "Manual of {tool}:\n{page}"
    ),
    "follow_up": (
        "A conversation has begun. Write the next {count} turns, one after the other: requests that make sense only after what came "
        "before (it, those, the same for another file, no, only the newest), each with the full command.\n\n"
        "Request: {request}\nCommand: {command}"
    ),
    "repair": (
        "A command failed. Write the repaired command: the smallest change that does what was meant.\n\n"
        "$ {command}\n{stderr}\nexit code {exit_code}"
    ),
    "explanation": (
        "Say in one sentence of at most 25 words what the command does, and what its options are for. Start with a verb.\n\n"
        "Request: {request}\nCommand: {command}"
    ),
    "answer": "Write the command for this request.\n\nRequest: {request}",
}
FORMS: dict[Kind, str] = {
    "paraphrase": '{"wordings": ["…", …]}',
    "pair": '{"pairs": [{"request": "…", "command": "…"}, …]}',
    "follow_up": '{"pairs": [{"request": "…", "command": "…"}, …]}',
    "repair": '{"command": "…"}',
    "explanation": '{"explanation": "…"}',
    "answer": '{"command": "…"}',
}
SKILLS: dict[Kind, str] = {
    "paraphrase": "command", "pair": "command", "follow_up": "dialogue", "repair": "repair", "explanation": "explanation", "answer": "command",
}  # fmt: skip
VARIED: tuple[Kind, ...] = ("paraphrase", "pair", "follow_up")
VARIED_TEMPERATURE, EXACT_TEMPERATURE = 0.8, 0.2  # chosen: many wordings, and one right answer
TOKENS_EACH, TOKENS_AROUND = 100, 100  # of an answer: for each item, and for the rest; chosen


class _Answer(pydantic.BaseModel):
    """Strict: no other keys, no other types."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)


class _Wordings(_Answer):
    wordings: list[str] = pydantic.Field(min_length=1)


class _Pair(_Answer):
    request: str
    command: str


class _Pairs(_Answer):
    pairs: list[_Pair] = pydantic.Field(min_length=1)


class _Command(_Answer):
    command: str


class _Explanation(_Answer):
    explanation: str


MODELS: dict[Kind, type[_Answer]] = {
    "paraphrase": _Wordings, "pair": _Pairs, "follow_up": _Pairs, "repair": _Command, "explanation": _Explanation, "answer": _Command,
}  # fmt: skip
PROMPT_VERSION = hashlib.sha256(
    repr((SYSTEM, SHELLS, TEMPLATES, FORMS, [model.model_json_schema() for model in MODELS.values()])).encode()
).hexdigest()[:12]


class MalformedAnswerError(ValueError):
    """An answer that does not have the form that was asked for."""


@dataclasses.dataclass(frozen=True)
class Assignment:
    """One thing that a teacher is asked to write.

    Attributes:
        id: unique and stable; rows are named after it.
        family: the rows stay on that side of the split where this family is.
        values: what the template is filled with.
        count: how many items are wanted.
    """

    id: str
    kind: Kind
    family: str
    values: Mapping[str, str]
    count: int = 1
    platform: Platform = "linux"

    @property
    def temperature(self) -> float:
        return VARIED_TEMPERATURE if self.kind in VARIED else EXACT_TEMPERATURE

    @property
    def max_tokens(self) -> int:
        return TOKENS_AROUND + TOKENS_EACH * self.count

    def messages(self) -> list[Message]:
        """What the teacher is told."""
        system = SYSTEM.format(shell=SHELLS[self.platform], form=FORMS[self.kind])
        request = TEMPLATES[self.kind].format(count=self.count, **self.values)
        return [{"role": "system", "content": system}, {"role": "user", "content": request}]

    def json_schema(self) -> dict[str, Any]:
        """The form of the answer."""
        schema = MODELS[self.kind].model_json_schema()
        for field in schema["properties"].values():
            if field.get("type") == "array":
                field["maxItems"] = self.count
        return schema


@dataclasses.dataclass(frozen=True)
class Proposal:
    """A conversation that a teacher proposes to learn from.

    Attributes:
        number: position in the answer.
        commands: those that the teacher wrote, in the order of the conversation; empty where it only found words.
        problem: why it cannot teach, as far as reading shows; None where commands have to be run to know.
    """

    assignment: Assignment
    number: int
    turns: tuple[Turn, ...]
    commands: tuple[str, ...]
    problem: str | None

    @property
    def skill(self) -> str:
        return SKILLS[self.assignment.kind]


def paraphrases(
    identity: str, family: str, request: str, command: str, count: int, platform: Platform = "linux"
) -> Assignment:
    """Ask for other wordings of `request`; `command` is known to be right for it."""
    return Assignment(identity, "paraphrase", family, {"request": request, "command": command}, count, platform)


def pairs(identity: str, family: str, tool: str, page: str, count: int, platform: Platform = "linux") -> Assignment:
    """Ask for tasks that `tool` solves, from the text of its manual page."""
    return Assignment(identity, "pair", family, {"tool": tool, "page": page[:LONGEST_PAGE]}, count, platform)


def follow_ups(
    identity: str, family: str, request: str, command: str, count: int, platform: Platform = "linux"
) -> Assignment:
    """Ask for the next turns of a conversation that began with `request` and the right `command`."""
    return Assignment(identity, "follow_up", family, {"request": request, "command": command}, count, platform)


def repair(
    identity: str, family: str, command: str, exit_code: int, stderr: str, platform: Platform = "linux"
) -> Assignment:
    """Ask for what should have been typed instead of `command`."""
    values = {"command": command, "stderr": stderr[:LONGEST_STDERR], "exit_code": str(exit_code)}
    return Assignment(identity, "repair", family, values, 1, platform)


def explanation(identity: str, family: str, request: str, command: str, platform: Platform = "linux") -> Assignment:
    """Ask what `command` does; it is known to be right for `request`."""
    return Assignment(identity, "explanation", family, {"request": request, "command": command}, 1, platform)


def answer(identity: str, family: str, request: str, platform: Platform = "linux", reference: str = "") -> Assignment:
    """Ask for the command for `request`; `reference`, one that is known to be right, is for checks and not told."""
    values = {"request": request, "reference": reference} if reference else {"request": request}
    return Assignment(identity, "answer", family, values, 1, platform)


def read_answer(assignment: Assignment, text: str) -> list[Proposal]:
    """The proposals in a teacher's answer.

    Raises:
        MalformedAnswerError: it is not JSON of the form that was asked for.
    """
    try:
        document = MODELS[assignment.kind].model_validate_json(text)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise MalformedAnswerError(f"{place}: {first['msg']}" if place else first["msg"]) from error
    return [
        Proposal(assignment, number, turns, commands, _problem(assignment, turns, commands))
        for number, (turns, commands) in enumerate(_conversations(assignment, document))
    ]


def kept_values(request: str, command: str) -> set[str]:
    """What another wording must not lose: numbers of the request, and its words that are values in the command."""
    values = set(VALUE.findall(PROGRAM.sub(" ", command)))
    words = {word.strip(".,;:!?'\"()") for word in request.split()}
    return {word for word in words if word in values} | set(NUMBER.findall(request))


def missing_values(request: str, reference: str, command: str) -> list[str]:
    """Values that `request` names and `reference` holds, and that `command` lacks, sorted.

    Running does not tell: `cat` does what `head -n 20` does to a short file.
    """
    named = sorted(value for value in kept_values(request, reference) if _holds(reference, value))
    return [value for value in named if not _holds(command, value)]


def _conversations(assignment: Assignment, document: _Answer) -> Iterator[tuple[tuple[Turn, ...], tuple[str, ...]]]:
    """(turns, commands that are new) of each row in an answer."""
    given = assignment.values
    match document:
        case _Wordings():
            for wording in document.wordings:
                yield _turns(wording, given["command"]), ()
        case _Pairs() if assignment.kind == "pair":
            for pair in document.pairs:
                yield _turns(pair.request, pair.command), (pair.command.strip(),)
        case _Pairs():
            opening = _turns(given["request"], given["command"])
            following = [turn for pair in document.pairs for turn in _turns(pair.request, pair.command)]
            yield (*opening, *following), tuple(pair.command.strip() for pair in document.pairs)
        case _Command():
            request = REPAIR_REQUEST.format(**given) if assignment.kind == "repair" else given["request"]
            yield _turns(request, document.command), (document.command.strip(),)
        case _Explanation():
            opening = _turns(given["request"], given["command"])
            yield (*opening, *_turns(EXPLAIN_REQUEST, document.explanation)), ()


def _turns(request: str, reply: str) -> tuple[Turn, Turn]:
    return Turn("user", request.strip()), Turn("assistant", reply.strip())


def _problem(assignment: Assignment, turns: tuple[Turn, ...], commands: tuple[str, ...]) -> str | None:
    written = [turn.content for turn in turns if turn.content not in assignment.values.values()]
    if assignment.kind == "repair":
        written = list(commands)  # the request holds what the shell said, on several lines
    if any(not line or len(line) > LONGEST_LINE or not line.isprintable() for line in written):
        return "is empty, too long or not one line"
    if any(MARKUP.search(command) for command in commands):
        return "has markup around a command"
    if assignment.kind in ("pair", "follow_up") and not all(map(_is_plain, turns)):
        return "has a request that is not in plain words"
    if assignment.kind == "repair" and commands[0] == assignment.values["command"].strip():
        return "repeats the command that failed"
    if assignment.kind == "paraphrase":
        lost = [value for value in sorted(kept_values(**assignment.values)) if not _names(turns[0].content, value)]
        if lost:
            return f"leaves out {', '.join(lost)}"
        added = _numbers_added(turns[0].content, " ".join(assignment.values.values()))
        if added:
            return f"adds {', '.join(added)}"
    return None


def _holds(command: str, value: str) -> bool:
    """Whether `value` stands in a command, where options and units may touch it (`-n5`, `1,5p`); no 5 stands in 50."""
    if not value.isdecimal():
        return value in command
    return value in DIGITS.findall(command)


def _names(wording: str, value: str) -> bool:
    """Whether `value` is a word of `wording`, or a number of it, which a unit may follow; `.mp4` names mp4, and 1.5 no 5."""
    if value.isdecimal():
        return value in NUMBER.findall(wording)
    before = r"(?<![\w.])" if value[0].isdecimal() else r"(?<!\w)"
    after = r"(?!\w)"  # also where the value ends with a sign: docs/x is not docs/
    return re.search(before + re.escape(value) + after, wording) is not None


def _numbers_added(wording: str, known: str) -> list[str]:
    """Numbers of `wording` that `known` (request and command) does not have in any form, sorted."""
    found = {*DIGITS.findall(known), *re.findall(r"\d+(?:\.\d+)+", known)}
    return sorted(set(WHOLE_NUMBER.findall(wording)) - found)


def _is_plain(turn: Turn) -> bool:
    """Whether a request has words and no options: weak teachers repeat the command as its own request, or only a number."""
    return turn.role == "assistant" or (WORD.search(turn.content) is not None and OPTION.search(turn.content) is None)
