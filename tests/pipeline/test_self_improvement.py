"""Self-improvement: only training requests are asked, only proved answers teach, and only a model that is no worse stays."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import pytest
import torch

from overseer_training import self_improvement
from overseer_training.config.flags import build_parser
from overseer_training.config.plan import Plan
from overseer_training.data.clean import HeldOutRequests
from overseer_training.data.sources.corpus import load_families
from overseer_training.errors import SandboxError
from overseer_training.evaluation.questions import Question
from overseer_training.evaluation.sandbox import find_sandbox
from overseer_training.guards.signatures import check_signature
from overseer_training.models import load
from overseer_training.models.custom import build_custom_model
from overseer_training.planning import make_plan
from overseer_training.records import Example, RunPaths, Score, Turn
from overseer_training.self_improvement import AnswerProof, check_improvable, draw_questions, improve
from overseer_training.teachers.rejection import Sampled
from overseer_training.teachers.rows import Provenance, TaughtRow

DIMENSIONS = {
    "vocabulary_size": 400,
    "hidden_size": 32,
    "intermediate_size": 64,
    "layers": 2,
    "attention_heads": 4,
    "key_value_heads": 2,
    "checkpoint": None,
}
WORDS = ("src", "docs", "logs", "tmp", "bin", "etc", "usr", "opt")


def row(word: str, command: str = "ls") -> Example:
    turns = (Turn("user", f"list {word}"), Turn("assistant", f"{command} {word}"))
    return Example(f"{command}/{word}", "list", "command", turns, "linux", "corpus")


def test_requests_are_of_the_training_split_alone() -> None:
    families = load_families()
    asked = draw_questions(families, 300, seed=1)
    splits = {family.name: family.split for family in families}
    assert len(asked) == len({one.id for one in asked}) == 300
    assert {splits[one.cluster] for one in asked} == {"train"}
    assert asked == draw_questions(families, 300, seed=1) != draw_questions(families, 300, seed=2)
    held_out = HeldOutRequests.of_families(families)
    assert sum(held_out.has(one.query) for one in asked) < 15  # near repetitions, which the sieve leaves out


def test_an_answer_is_right_by_what_it_does_and_by_what_it_names() -> None:
    query, reference = "show the first 50 lines of notes.txt", "head -n 50 notes.txt"
    asked = [Question("q", "command", "f", query, [], "tiny", (reference,))]
    proof = AnswerProof(find_sandbox())
    proof._scripts = {"tiny": ("seq 20 > notes.txt", "")}
    fine = ["head -n 50 notes.txt", "head -50 notes.txt", "sed -n 1,50p notes.txt"]
    wrong = [
        "cat notes.txt",
        "tail -n 50 other.txt",
        "head -n 5 notes.txt # 50",
        "head -n 500 notes.txt",
        "rm -rf /",
        "",
        "head -n 50 'notes.txt",
    ]
    assert proof.find_right(asked, [[*fine, *wrong]]) == {("q", command) for command in fine}


def test_blanks_count_in_what_is_learned() -> None:
    asked = [Question("q", "command", "f", "squeeze the spaces in notes.txt", [], "tiny", ("tr -s ' ' < notes.txt",))]
    proof = AnswerProof(find_sandbox())
    proof._scripts = {"tiny": ("echo 'a   b' > notes.txt", "")}
    assert proof.find_right(asked, [["sed 's/  */ /g' notes.txt", "cat notes.txt"]]) == {
        ("q", "sed 's/  */ /g' notes.txt")
    }


@pytest.fixture
def paths(tmp_path: pathlib.Path) -> RunPaths:
    """A run with a model and nothing else."""
    made = RunPaths(tmp_path / "run")
    build_custom_model(DIMENSIONS, [f"list {word} ls {word}" for word in WORDS], made.model, sequence_length=64, seed=1)
    tokenizer = load.load_tokenizer(made.model)
    model = load.load_base(made.model, torch.float32, "cpu", 64)
    load.save_trained(model, tokenizer, made.model, base_name="custom", base_folder=None, method="full")
    return made


def plan_of(tmp_path: pathlib.Path, *flags: str) -> Plan:
    arguments = (
        "--model-type",
        "custom",
        "--device",
        "cpu",
        "--precision",
        "fp32",
        "--micro-batch-size",
        "4",
        "--ram-limit",
        "1.0",
    )
    return make_plan(build_parser().parse_args([*arguments, "--output-dir", str(tmp_path), *flags]), for_run=True)[0]


class Terminal:
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.result = ""

    def stage(self, name: str) -> Terminal:
        return self

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def say(self, text: str) -> None:
        self.said.append(text)


def run_rounds(
    paths: RunPaths, monkeypatch: pytest.MonkeyPatch, scores: list[float | None], found: list[Example]
) -> tuple[Terminal, list[dict[str, Any]]]:
    """One round in which sampling finds `found` and validation gives `scores`, with real training."""
    rows = [TaughtRow(one, Provenance(("student",), "v", "now", one.id)) for one in found]
    monkeypatch.setenv("OVERSEER_STATE", str(paths.root.parent / "state"))
    monkeypatch.setattr(self_improvement, "load_families", list)  # what is asked is tested above
    monkeypatch.setattr(
        self_improvement._Improvement, "_sample", lambda self, number, asked: Sampled(rows, 9, len(rows), 0)
    )
    monkeypatch.setattr(self_improvement._Improvement, "measure", lambda self, model: Score(9, scores.pop(0), None))
    plan = plan_of(paths.root.parent, "--self-improve", "1", "--self-improve-requests", "9", "--learning-rate", "1e-2")
    known = {"train": [row(word) for word in WORDS], "validation": [row("var")]}
    terminal = Terminal()
    assert improve(plan, paths, known, paths.model, terminal) == 0
    return terminal, json.loads((paths.self_improvement / "rounds.json").read_text())


@pytest.mark.parametrize(("after", "is_kept"), [(0.5, True), (0.4, True), (0.3, False), (None, False)])
def test_a_round_stays_where_validation_is_no_worse(
    after: float | None, is_kept: bool, paths: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (paths.model / "model.safetensors").read_bytes()
    monkeypatch.setenv("OVERSEER_PASSPHRASE", "several quiet words")
    terminal, rounds = run_rounds(paths, monkeypatch, [0.4, after], [row(word, "dir") for word in WORDS[:4]])
    assert rounds[0]["is_kept"] is is_kept and rounds[0]["new"] == 4
    assert ((paths.model / "model.safetensors").read_bytes() != before) is is_kept
    assert load.load_trained(paths.model).stop_ids  # whole, either way
    assert (check_signature(paths.model) == "owner") is is_kept  # this owner did not sign the one before
    assert sorted(path.name for path in paths.self_improvement.iterdir()) == ["rounds.json", "rows-1.jsonl"]
    assert any("4 of 9 requests solved, 4 answers are new" in line for line in terminal.said)


def test_without_new_answers_nothing_is_trained(paths: RunPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (paths.model / "model.safetensors").read_bytes()
    terminal, rounds = run_rounds(paths, monkeypatch, [0.4], [])
    assert rounds[0]["after"] is None and (paths.model / "model.safetensors").read_bytes() == before
    assert any("nothing was trained" in line for line in terminal.said)


def test_it_is_off_unless_asked_for(paths: RunPaths, tmp_path: pathlib.Path) -> None:
    assert improve(plan_of(tmp_path), paths, {}, paths.model, None) == 0
    assert not paths.self_improvement.exists()


def test_of_equally_frequent_right_answers_the_known_command_teaches(
    paths: RunPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, longer = "head -n 3 notes.txt", "head --lines 3 notes.txt"
    asked = [Question("q", "command", "f", "the first 3 lines of notes.txt", [], "tiny", (reference,))]
    monkeypatch.setattr("overseer_training.models.generate.generate", lambda *_, **__: [longer, reference])
    plan = plan_of(paths.root.parent, "--self-improve", "1", "--self-improve-samples", "2")
    improvement = self_improvement._Improvement(plan, paths, {"train": []}, paths.model, lambda text: None)
    improvement._families = []
    improvement._proof._scripts = {"tiny": ("seq 9 > notes.txt", "")}
    assert [one.example.answer for one in improvement._sample(1, asked).rows] == [reference]


def test_a_machine_without_a_sandbox_is_told_before_training(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_none() -> None:
        raise SandboxError("no sandbox works here")

    monkeypatch.setattr(self_improvement, "find_sandbox", find_none)
    check_improvable(plan_of(tmp_path))
    with pytest.raises(SandboxError, match="no sandbox"):
        check_improvable(plan_of(tmp_path, "--self-improve", "1"))


def test_the_main_job_asks_the_model_that_it_trained(workplace: Any) -> None:
    code, output, errors = workplace.train_small(
        "--max-steps", "1", "--test-tasks", "0", "--no-export", "--run-name", "improved",
        "--self-improve", "1", "--self-improve-requests", "4", "--self-improve-samples", "2",
    )  # fmt: skip
    assert code == 0, output + errors
    assert "round 1: 2 answers to each of 4 requests" in output and "rounds kept" in output
    rounds = json.loads((workplace.runs / "improved" / "self-improvement" / "rounds.json").read_text())
    assert (rounds[0]["requests"], rounds[0]["samples"]) == (4, 2)
