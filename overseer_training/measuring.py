"""The evaluation stage: the models of a run answer the same tasks, and the gate judges what came of it.

Takes a plan, the models and the rows held back; gives eval.json, answers.jsonl, eval.txt (the table for people) and gate.json of the run.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from overseer_training.config.machine import find_machine
from overseer_training.config.plan import Plan
from overseer_training.errors import ModelError, UsageError
from overseer_training.files import write_json, write_text
from overseer_training.records import Example, Platform, RunPaths, Score, Turn

if TYPE_CHECKING:
    from overseer_training.evaluation.gate import Gate
    from overseer_training.evaluation.runner import Evaluation, Evaluator
    from overseer_training.evaluation.suite import Suite

TEST_ROWS = 400  # for loss and token accuracy; chosen: a few seconds of work
# Parts of the number of commands that are asked beside them. Noise and groups ask each task in eight forms. Chosen: about half as many
# questions again.
ATTACKS, NOISY, GROUPED = 4, 20, 20
Say = Callable[[str], None]


def make_suite(tasks: int, seed: int, with_macos: bool) -> Suite:
    """The packaged tasks of a run: every skill, attacks, noise and groups of people.

    Args:
        tasks: commands; of everything else there are a part of that.
    """
    from overseer_training.data.sources.corpus import load_families
    from overseer_training.evaluation.suite import packaged_suite
    from overseer_training.evaluation.tasks.adversarial import add_adversarial_tasks
    from overseer_training.evaluation.tasks.bias import add_bias_tasks

    suite = packaged_suite(tasks, seed, with_macos)
    suite = add_adversarial_tasks(suite, tasks // NOISY, seed, tasks // ATTACKS)
    return add_bias_tasks(suite, load_families(), tasks // GROUPED, seed) if tasks // GROUPED else suite


def measure_run(
    plan: Plan, paths: RunPaths, rows: Mapping[str, Sequence[Example]], start: pathlib.Path, say: Say
) -> tuple[dict[str, Any], Gate]:
    """Score the model that training started from and what came of it, judge the latter, and store all of it in the run.

    Args:
        rows: by split; `test`, and `personal` where there are any.
        start: the folder of the model that training started from.

    Returns:
        What eval.json has, and what gate.json has.
    """
    from overseer_training.evaluation.checks import Thresholds
    from overseer_training.evaluation.gate import judge_run
    from overseer_training.evaluation.runner import Evaluator, answers_as_records
    from overseer_training.learning.machine import read_held_back

    about_machine = read_held_back(paths.data)
    evaluator = Evaluator(make_suite(plan.test_tasks, plan.seed, plan.macos_share > 0), say)
    champion, models = _models_to_measure(plan, paths, start)
    found = {
        name: _measure_model(
            plan,
            folder,
            rows,
            about_machine,
            evaluator,
            functools.partial(_say_of, say, name),
            is_base=name == "base" and not plan.start_from,
        )
        for name, folder in models.items()
    }
    records = answers_as_records(found["base"].answers, found["trained"].answers)
    write_text(paths.answers, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    document: dict[str, Any] = {
        name: {metric: score.as_dict() for metric, score in evaluation.scores.items()}
        for name, evaluation in found.items()
    }
    document["trained"] |= _earlier_parity(paths)
    if plan.start_from and "champion" not in found:
        document["champion"] = document["base"]
    if champion:
        document["champion_run"] = champion
    document["machine"] = _describe_machine(plan)
    write_json(paths.evaluation, document)
    write_table(paths)
    return document, judge_run(paths, Thresholds(**plan.gate))


def write_table(paths: RunPaths) -> None:
    """Write eval.txt: what eval.json has, for people."""
    from overseer_training.reporting.score_table import format_scores

    document = json.loads(paths.evaluation.read_text())
    write_text(paths.score_table, format_scores(document, f"Scores of {paths.root.name}"))


def _models_to_measure(plan: Plan, paths: RunPaths, start: pathlib.Path) -> tuple[str, dict[str, pathlib.Path]]:
    """Name of the champion's run, empty where there is none, and folders of models; a champion that training started from is the base.

    The champion is what `latest` is now: after a rollback that is another run than training started from, and promotion asks for it.
    """
    models = {"base": start, "trained": paths.model}
    latest = (paths.root.parent / "latest").resolve()
    begun = pathlib.Path(plan.start_from).resolve() if plan.start_from else None
    is_other = latest not in (paths.root.resolve(), begun) and (RunPaths(latest).model / "overseer.json").exists()
    if is_other and (begun is not None or plan.continuous_learning):
        return latest.name, {**models, "champion": RunPaths(latest).model}
    return (begun.name if begun is not None else ""), models


def _measure_model(
    plan: Plan,
    folder: pathlib.Path,
    rows: Mapping[str, Sequence[Example]],
    about_machine: Sequence[Mapping[str, Any]],
    evaluator: Evaluator,
    say: Say,
    *,
    is_base: bool,
) -> Evaluation:
    """All tasks, the rows held out from the corpus, and those of the owner."""
    from overseer_training.data.tokenize import tokenize
    from overseer_training.evaluation.token_metrics import measure_tokens
    from overseer_training.models.decoding import BEAMS
    from overseer_training.models.load import load_trained

    loaded = load_trained(folder, plan.device, is_base=is_base)
    # A model without training writes prose up to the limit, which takes longest of all here: it is asked greedily.
    evaluation = evaluator.evaluate(loaded, say, beams=1 if is_base else BEAMS)
    held_out = rows["test"][:: max(1, len(rows["test"]) // TEST_ROWS)]
    tokens = tokenize(held_out, loaded.tokenizer, plan.sequence_length, loaded.stop_ids)
    scores = {
        **evaluation.scores,
        **measure_tokens(loaded.model, tokens, plan.device),
        **_measure_personal(loaded, rows.get("personal", ())),
        **_measure_machine(loaded, about_machine),
    }
    return dataclasses.replace(evaluation, scores=scores)


def _measure_personal(loaded: Any, held_back: Sequence[Example]) -> dict[str, Score]:
    """How often a model gives the owner's own command, on requests that were held back."""
    if not held_back:
        return {}
    from overseer_training.learning.curate import score_personal
    from overseer_training.models.generate import extract_command, generate
    from overseer_training.prompts import with_system

    texts = generate(loaded, [with_system(row.turns[:1], row.platform) for row in held_back])
    return {"personal_accuracy": score_personal(held_back, [extract_command(text) for text in texts])}


def _measure_machine(loaded: Any, tasks: Sequence[Mapping[str, Any]]) -> dict[str, Score]:
    """How well a model says what this machine did next, in the part of its telemetry that was held back; each beside its baselines."""
    if not tasks:
        return {}
    from overseer_training.models.generate import generate
    from overseer_training.prompts import with_system
    from overseer_training.telemetry.score import score_with_baselines
    from overseer_training.telemetry.wording import parse_answer, render

    platform: Platform = "macos" if find_machine().system == "macOS" else "linux"
    prompts = [with_system([Turn("user", render(task["window"], task["question"]))], platform) for task in tasks]
    said = [parse_answer(task["question"], text) for task, text in zip(tasks, generate(loaded, prompts), strict=True)]
    return {f"machine_{name}": score for name, score in score_with_baselines(tasks, said).items()}


def _earlier_parity(paths: RunPaths) -> dict[str, Any]:
    """What the export of the same model measured before, so that evaluating again does not lose it."""
    from overseer_training.evaluation.gate import check_identity, read_gate

    try:
        if check_identity(paths.root, read_gate(paths.root)):
            return {}
        parity = json.loads(paths.evaluation.read_text())["trained"]["export_parity"]
        return {"export_parity": parity}
    except (UsageError, ModelError, OSError, ValueError, KeyError, TypeError):
        return {}


def _say_of(say: Say, name: str, text: str) -> None:
    say(f"  {name}: {text}")


def _describe_machine(plan: Plan) -> dict[str, Any]:
    found = find_machine()
    return {
        "cpu": found.processor,
        "cores": found.cores,
        "ram_bytes": found.memory_bytes,
        "device": plan.device,
        "system": found.system,
    }
