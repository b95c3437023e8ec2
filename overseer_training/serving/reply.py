"""What may be said of an answer: its command, judged, and the text that may be given away.

Takes an `Answer`; gives a `Reply`. A command that was cut off is never allowed as it is: `rm -r old/logs` cut short is another command.
"""

from __future__ import annotations

import dataclasses

from overseer_training.guards.judge import format_verdict, judge
from overseer_training.guards.verdicts import Verdict, ask, worst
from overseer_training.models.generate import extract_command
from overseer_training.serving.backends import Answer


@dataclasses.dataclass(frozen=True)
class Reply:
    """An answer with the verdict on it."""

    answer: Answer
    command: str
    verdict: Verdict

    @property
    def content(self) -> str:
        """The text for a program: the answer, or a comment with the reason where the command is refused."""
        if self.verdict.decision != "refuse":
            return self.answer.text
        return "# " + " ".join(format_verdict(self.verdict).split())


def judge_answer(answer: Answer) -> Reply:
    """`answer` with the verdict on its command, and on its whole text where that is refused: a client may run all of it."""
    command = extract_command(answer.text)
    verdicts = [judge(command)]
    if answer.text != command:
        whole = judge(answer.text)
        verdicts += [whole] if whole.decision == "refuse" else []  # prose cannot be read as bash, which is no danger
    if answer.ending == "length":
        verdicts.append(ask("the answer was cut off before its end"))
    return Reply(answer, command, worst(verdicts))


def cut_at(answer: Answer, stops: tuple[str, ...]) -> Answer:
    """`answer` up to the first of `stops` in it."""
    places = [place for stop in stops if (place := answer.text.find(stop)) >= 0]
    return dataclasses.replace(answer, text=answer.text[: min(places)].strip(), ending="stop") if places else answer
