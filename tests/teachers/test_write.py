"""Answers are read strictly, and become conversations; what reading can see is seen before anything is run."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overseer_training.prompts import EXPLAIN_REQUEST
from overseer_training.teachers import write
from overseer_training.teachers.write import Assignment, MalformedAnswerError, kept_values, missing_values, read_answer

REQUEST, COMMAND = "show the last 20 lines of app.log", "tail -n 20 app.log"
ASSIGNMENTS = {
    "paraphrase": write.paraphrases("a", "f", REQUEST, COMMAND, 2),
    "pair": write.pairs("a", "f", "tail", "tail prints the {last} lines. " * 900, 2),
    "follow_up": write.follow_ups("a", "f", REQUEST, COMMAND, 2),
    "repair": write.repair("a", "f", "tial app.log", 127, "bash: tial: command not found\nx"),
    "explanation": write.explanation("a", "f", REQUEST, COMMAND),
    "answer": write.answer("a", "f", REQUEST, "macos"),
}
PAIR = {"request": "and app.log.1", "command": "tail -n 20 app.log.1"}
GOOD = {
    "paraphrase": {"wordings": ["last 20 lines of app.log, please"]},
    "pair": {"pairs": [PAIR, PAIR]},
    "follow_up": {"pairs": [PAIR, PAIR]},
    "repair": {"command": "tail app.log"},
    "explanation": {"explanation": "Prints the end of app.log."},
    "answer": {"command": COMMAND},
}


def read(kind: str, document: object) -> list[write.Proposal]:
    return read_answer(ASSIGNMENTS[kind], json.dumps(document))


@pytest.mark.parametrize("kind", GOOD)
def test_every_kind_asks_with_what_was_given_and_for_a_form(kind: str) -> None:
    assignment = ASSIGNMENTS[kind]
    system, user = assignment.messages()
    shown = set(assignment.values.values()) if kind != "pair" else {"tail prints the {last} lines."}
    assert all(value in user["content"] for value in shown)
    assert ("macOS" in system["content"]) is (kind == "answer")
    assert next(iter(assignment.json_schema()["properties"])) in system["content"]
    assert len(user["content"]) < 13_000


@pytest.mark.parametrize(
    ("kind", "turns", "commands"),
    [
        ("paraphrase", [("last 20 lines of app.log, please", COMMAND)], ()),
        ("repair", [("tial", "tail app.log")], ("tail app.log",)),
        ("explanation", [(REQUEST, COMMAND), (EXPLAIN_REQUEST, "Prints the end of app.log.")], ()),
        ("answer", [(REQUEST, COMMAND)], (COMMAND,)),
        ("follow_up", [(REQUEST, COMMAND), *[tuple(PAIR.values())] * 2], (PAIR["command"],) * 2),
    ],
)
def test_answers_become_conversations(kind: str, turns: list[tuple[str, str]], commands: tuple[str, ...]) -> None:
    (proposal,) = read(kind, GOOD[kind])
    texts = [turn.content for turn in proposal.turns]
    assert [
        (request if kind != "repair" else "tial", reply) for request, reply in zip(texts[::2], texts[1::2], strict=True)
    ] == turns
    assert kind != "repair" or "$ tial app.log\nbash: tial: command not found" in texts[0]
    assert (proposal.commands, proposal.problem) == (commands, None)
    assert [turn.role for turn in proposal.turns] == ["user", "assistant"] * len(turns)


def test_each_pair_is_a_row_of_its_own() -> None:
    assert [proposal.commands for proposal in read("pair", GOOD["pair"])] == [(PAIR["command"],)] * 2


@pytest.mark.parametrize(
    "text",
    [
        "", "ls", "null", '{"command": "ls"', '```json\n{"command": "ls"}\n```', '{"command": 5}', '{"command": null}', "{}",
        '{"command": "ls", "note": "x"}', '["ls"]', '{"command": ["ls"]}',
    ],
)  # fmt: skip
def test_what_is_not_exactly_the_form_is_malformed(text: str) -> None:
    with pytest.raises(MalformedAnswerError):
        read_answer(ASSIGNMENTS["answer"], text)


@given(st.text())
def test_any_text_is_an_answer_or_malformed(text: str) -> None:
    for assignment in ASSIGNMENTS.values():
        with contextlib.suppress(MalformedAnswerError):
            assert read_answer(assignment, text)


@given(st.text())
def test_a_command_that_passes_reading_is_one_line(text: str) -> None:
    (proposal,) = read("answer", {"command": text})
    if proposal.problem is None:
        assert proposal.commands[0].isprintable() and proposal.commands[0] == text.strip() != ""


@pytest.mark.parametrize(
    ("kind", "document", "problem"),
    [
        ("answer", {"command": ""}, "is empty"),
        ("answer", {"command": "ls\nrm x"}, "not one line"),
        ("answer", {"command": "ls \x1b[2J"}, "not one line"),
        ("answer", {"command": "echo " + "x" * 500}, "too long"),
        ("answer", {"command": "$ ls"}, "markup"),
        ("answer", {"command": "`ls`"}, "markup"),
        ("pair", {"pairs": [{"request": "wc -l -w", "command": "wc -l -w x"}]}, "not in plain words"),
        ("pair", {"pairs": [{"request": "123", "command": "wc -l x"}]}, "not in plain words"),
        ("follow_up", {"pairs": [PAIR, {"request": "tail --lines 5", "command": "tail"}]}, "not in plain words"),
        ("repair", {"command": "tial app.log "}, "repeats the command that failed"),
        ("explanation", {"explanation": "a\nb"}, "not one line"),
        ("paraphrase", {"wordings": ["the end of app.log"]}, "leaves out 20"),
        ("paraphrase", {"wordings": ["last 20 lines of the log"]}, "leaves out app.log"),
    ],
)
def test_what_reading_can_see_is_a_problem(kind: str, document: object, problem: str) -> None:
    (proposal,) = read(kind, document)
    assert problem in (proposal.problem or "")


@pytest.mark.parametrize(
    ("request_text", "command", "kept"),
    [
        (REQUEST, COMMAND, {"20", "app.log"}),
        ("find mp4 files in videos", "find videos -name '*.mp4'", {"mp4", "videos"}),
        ("sort names.txt by name", "sort names.txt", {"names.txt"}),
        ("restart nginx", "sudo systemctl restart nginx", {"nginx"}),
        ("delete empty folders", "find . -type d -empty -delete", set()),
    ],
)
def test_values_are_what_request_and_command_share(request_text: str, command: str, kept: set[str]) -> None:
    assert kept_values(request_text, command) == kept


@pytest.mark.parametrize(
    ("request_text", "command", "wording", "problem"),
    [
        ("first 5 lines of a.txt", "head -n 5 a.txt", "print the first 15 lines of a.txt", "leaves out 5"),
        ("first 5 lines of a.txt", "head -n 5 a.txt", "print the first 5.5 lines of a.txt", "adds 5.5"),
        ("first 5 lines of a.txt", "head -n 5 a.txt", "first 5 lines of data.txt", "leaves out a.txt"),
        ("first 5 lines of a.txt", "head -n 5 a.txt", "the first 5 of the 80 lines of a.txt", "adds 80"),
        ("first 5 lines of a.txt", "head -n 5 a.txt", "5 lines, from the top of 'a.txt'.", None),
        (
            "the ten biggest files in docs",
            "du -a docs | sort -n | tail -10",
            "show me the 10 biggest files in docs",
            None,
        ),
        ("files over 20MB in docs", "find docs -size +20M", "what in docs is larger than 20MB", None),
        ("files over 20MB in docs", "find docs -size +20M", "what in docs is larger than 120MB", "leaves out 20"),
        ("find mp4 files in videos", "find videos -name '*.mp4'", "all .mp4 files of videos?", None),
        ("list docs/", "ls docs/", "what is in docs/?", None),
        ("list docs/", "ls docs/", "what is in docs/old?", "leaves out docs/"),
        ("wait 1.5 seconds", "sleep 1.5", "do nothing for 1.5 seconds", None),
        ("wait 1.5 seconds", "sleep 1.5", "do nothing for 1.25 seconds", "leaves out 1.5"),
        ("ping 10.0.0.1", "ping -c 1 10.0.0.1", "is 10.0.0.1 there", None),
        ("ping 10.0.0.1", "ping -c 1 10.0.0.1", "is 10.0.0.1 or 10.0.0.2 there", "adds 10.0.0.2"),
    ],
)
def test_another_wording_keeps_names_and_numbers_and_adds_no_number(
    request_text: str, command: str, wording: str, problem: str | None
) -> None:
    assignment = write.paraphrases("a", "f", request_text, command, 1)
    (proposal,) = read_answer(assignment, json.dumps({"wordings": [wording]}))
    assert proposal.problem == problem


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        ("head -n 5 a.log", []),
        ("head -n5 'a.log'", []),
        ("sed -n 1,5p a.log", []),
        ("cat a.log", ["5"]),
        ("head -n 50 a.log", ["5"]),
        ("head -n 5 b.log", ["a.log"]),
    ],
)
def test_values_that_a_command_does_not_name_are_missing(command: str, missing: list[str]) -> None:
    assert missing_values("first 5 of the 9 lines of a.log", "head -n 5 a.log", command) == missing


def test_the_version_of_the_prompts_is_a_hash() -> None:
    assert len(write.PROMPT_VERSION) == 12
    assert isinstance(Assignment("a", "answer", "f", {"request": "x"}).max_tokens, int)
