"""Tool tasks: the model gets a need and the candidates that a search found, and names the tools that it recommends.

Scored is the place of the first right tool among the first three named. Candidates come from the packaged list alone, and a machine has
what the task says, so that a score is the same everywhere. Not scored are the words of a recommendation and its install command.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from overseer_training.data.sources.advice import load_tools
from overseer_training.data.tools.catalogue import Candidate, Host, curated_catalogue, other_host
from overseer_training.data.tools.choice import CHOICES, installed_first, named_tools, request
from overseer_training.errors import NotAvailableError
from overseer_training.evaluation.questions import Answer, Question
from overseer_training.evaluation.suite import Suite, Task
from overseer_training.intervals import cluster_interval, score_outcomes, wilson_interval
from overseer_training.prompts import with_system
from overseer_training.records import Score, Turn

NO_ACCEPTABLE = "the task has no list of acceptable tools"
NOT_NAMED = "no right tool among the first three"


class ToolTasks:
    """Scores recommendations: hit@1, hit@3 and the mean reciprocal rank, beside those of the search alone."""

    def __init__(self, suite: Suite) -> None:
        """Search the candidates of all tool tasks.

        Raises:
            DataError: the packaged list of tools is not valid.
        """
        self._tasks = {task.id: task for task in suite.tasks if task.kind == "tools"}
        self._offered: dict[str, list[Candidate]] = {}
        self._why_not = ""
        try:
            self._catalogue = curated_catalogue(load_tools())
            for task in self._tasks.values():
                self._offered[task.id] = self._catalogue.search(task.fields["query"], _host(task))
        except NotAvailableError as error:
            self._why_not = str(error)
        self.questions: list[Question] = [self._question(task) for task in self._tasks.values()]

    def score(self, texts: Sequence[str]) -> list[Answer]:
        """Right is an acceptable tool in the first place; `command` holds the first tools named, with commas between."""
        return [self._score_text(question, text) for question, text in zip(self.questions, texts, strict=True)]

    def baseline_answers(self) -> dict[str, list[Answer]]:
        """What needs no model: the best matches of the search, and the same with what is installed before the rest."""
        ranked = [self._offered.get(question.id, []) for question in self.questions]
        rankings = {
            "bm25": ranked,
            "bm25_installed_first": [installed_first(offered) for offered in ranked],
        }
        return {
            name: [
                self._score_named(question, "", [candidate.name for candidate in offered])
                for question, offered in zip(self.questions, ranking, strict=True)
            ]
            for name, ranking in rankings.items()
        }

    def summarize(self, answers: Sequence[Answer]) -> dict[str, Score]:
        """`tool_hit_at_1`, `tool_hit_at_3` and `tool_mrr`, each with the values of the baselines on the same tasks."""
        scores = self.summarize_alone(answers)
        for name, said in self.baseline_answers().items():
            for metric, score in self.summarize_alone(said).items():
                if score.value is not None:
                    scores[metric].baseline[name] = score.value
        return scores

    def summarize_alone(self, answers: Sequence[Answer]) -> dict[str, Score]:
        """The same without baselines; the reciprocal rank is 0 where no right tool is among the first three.

        Intervals are the wider of that of a proportion and that of resampled clusters. For the reciprocal rank, which is no
        proportion, the former is too wide, never too narrow: of values between 0 and 1 with a given mean, zeros and ones vary most.
        """
        clusters = [answer.question.cluster for answer in answers]
        places = [None if answer.equal is None else self._place(answer) for answer in answers]
        reason = "; ".join(sorted({answer.reason for answer in answers if answer.equal is None})[:3])
        scores = {
            f"tool_hit_at_{most}": score_outcomes(
                [None if place is None else 1 <= place <= most for place in places], clusters, reason
            )
            for most in (1, CHOICES)
        }
        ranks = [1 / place if place else 0.0 for place in places if place is not None]
        unscored = len(answers) - len(ranks)
        if not ranks:
            return {**scores, "tool_mrr": Score(0, None, None, unscored, reason)}
        low, high = wilson_interval(round(sum(ranks)), len(ranks))
        kept = [cluster for cluster, place in zip(clusters, places, strict=True) if place is not None]
        cluster_low, cluster_high = cluster_interval(ranks, kept)
        interval = (min(low, cluster_low), max(high, cluster_high))
        return {**scores, "tool_mrr": Score(len(ranks), sum(ranks) / len(ranks), interval, unscored, reason)}

    def _question(self, task: Task) -> Question:
        content = request(task.fields["query"], self._offered.get(task.id, []))
        messages = with_system([Turn("user", content)], task.platform)
        references = tuple(_texts(task.fields, "acceptable"))
        return Question(task.id, "tools", task.cluster, task.fields["query"], messages, "", references)

    def _score_text(self, question: Question, text: str) -> Answer:
        if self._why_not:
            return Answer(question, text, "", None, self._why_not)
        host = _host(self._tasks[question.id])
        right = {name.casefold() for name in question.references}

        def is_known(name: str) -> bool:
            return name.casefold() in right or self._catalogue.find(name, host) is not None

        return self._score_named(question, text, named_tools(text, is_known))

    def _score_named(self, question: Question, text: str, named: Sequence[str]) -> Answer:
        if self._why_not or not question.references:
            return Answer(question, text, "", None, self._why_not or NO_ACCEPTABLE)
        answer = Answer(question, text, ", ".join(named[:CHOICES]), False, NOT_NAMED)
        place = self._place(answer)
        return Answer(question, text, answer.command, place == 1, f"right in place {place}" if place else NOT_NAMED)

    def _place(self, answer: Answer) -> int:
        """Of the first right tool among those named, from 1; 0 where there is none."""
        task = self._tasks[answer.question.id]
        acceptable = {self._same(name, task) for name in answer.question.references}
        # Where an acceptable tool is installed, only such a one is right: nobody should be sent to install another.
        right = acceptable & {self._same(name, task) for name in _texts(task.fields, "installed")} or acceptable
        named = (self._same(name, task) for name in answer.command.split(", "))
        return next((place for place, name in enumerate(named, start=1) if name in right), 0)

    def _same(self, name: str, task: Task) -> str:
        """One name for a tool that has several: `ripgrep` is the package of `rg`."""
        found = self._catalogue.find(name, _host(task))
        return (found.name if found else name).casefold()


def _host(task: Task) -> Host:
    return other_host(task.platform, set(_texts(task.fields, "installed")))


def _texts(fields: Mapping[str, Any], name: str) -> list[str]:
    """A list of texts; empty where the suite has something else."""
    value = fields.get(name)
    return [item for item in value if isinstance(item, str) and item] if isinstance(value, list) else []
