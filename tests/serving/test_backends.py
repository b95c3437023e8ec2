"""A model answers alike in llama.cpp and in transformers, and the quick way is taken only where it may stand for the weights."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import pytest

from overseer_training.errors import ModelError
from overseer_training.models.llama_file import PromptTooLongError
from overseer_training.prompts import with_system
from overseer_training.records import Turn
from overseer_training.serving.backends import (
    Backend,
    Settings,
    TransformersBackend,
    find_gguf,
    load_backend,
    model_name,
)


@pytest.fixture(scope="module")
def weights(run_folder: pathlib.Path) -> Backend:
    return TransformersBackend(run_folder)


@pytest.fixture(params=["llama.cpp", "transformers"])
def either(request: pytest.FixtureRequest, backend: Backend, weights: Backend) -> Backend:
    chosen = backend if request.param == "llama.cpp" else weights
    assert chosen.kind == request.param
    return chosen


def asked(*turns: str) -> list[dict[str, str]]:
    roles = ("user", "assistant") * len(turns)
    return with_system([Turn(role, text) for role, text in zip(roles, turns, strict=False)])  # type: ignore[arg-type]


def test_it_says_what_was_learned(either: Backend) -> None:
    answer = either.answer(asked("list the files in src"), Settings())
    assert (answer.text, answer.ending) == ("ls src", "stop")
    assert either.answer(asked("list the files in src", "ls src", "hidden ones too"), Settings()).text == "ls -A src"


def test_both_count_the_same_tokens(backend: Backend, weights: Backend) -> None:
    for turns in (["print hello"], ["print hello", "echo hello", "Explain this command."]):
        one, other = (each.answer(asked(*turns), Settings()) for each in (backend, weights))
        assert one == other


def test_a_token_limit_cuts_the_answer_and_says_so(either: Backend) -> None:
    answer = either.answer(asked("count the lines of notes"), Settings(max_new_tokens=1))
    assert (answer.answer_tokens, answer.ending) == (1, "length")


def test_an_answer_ends_when_nobody_wants_it(either: Backend) -> None:
    seen = iter([False, True, True, True, True])
    answer = either.answer(asked("count the lines of notes"), Settings(should_stop=lambda: next(seen)))
    assert answer.ending == "cancelled"


def test_a_conversation_beyond_the_window_is_refused(either: Backend) -> None:
    with pytest.raises(PromptTooLongError, match="does not fit the model's window of 2048 tokens"):
        either.answer(asked("x" * 9000), Settings())
    assert either.answer(asked("print hello"), Settings()).text == "echo hello"


def test_sampling_is_a_function_of_its_seed(either: Backend) -> None:
    def sample(seed: int) -> str:
        return either.answer(asked("zzz qqq"), Settings(max_new_tokens=12, temperature=2.0, seed=seed)).text

    assert sample(1) == sample(1)
    assert len({sample(seed) for seed in range(6)}) > 1


def copied(run: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    return shutil.copytree(run, target / "runs" / "copy")  # with the times of its files


def test_the_export_is_found_from_the_run_its_model_and_a_link(
    run_folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    (tmp_path / "latest").symlink_to(run_folder)
    for folder in (run_folder, run_folder / "model", tmp_path / "latest", tmp_path / "latest" / "model"):
        found = find_gguf(folder)
        assert found is not None and found.samefile(run_folder / "export" / "model.gguf")
        assert model_name(folder) == "tiny"


def test_an_export_older_than_the_model_is_not_used(run_folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    run = copied(run_folder, tmp_path)
    assert find_gguf(run) is not None
    later = time.time() + 60
    os.utime(run / "model" / "overseer.json", (later, later))
    assert find_gguf(run) is None


@pytest.mark.parametrize("parity", [{"n": 50, "equal": 40}, {"n": 0, "equal": 0}, None])
def test_an_export_that_was_not_measured_to_answer_alike_is_not_used(
    run_folder: pathlib.Path, tmp_path: pathlib.Path, parity: object
) -> None:
    run = copied(run_folder, tmp_path)
    manifest = run / "export" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "parity": parity}))
    assert find_gguf(run) is None


def test_an_incomplete_export_is_not_used(run_folder: pathlib.Path, tmp_path: pathlib.Path) -> None:
    run = copied(run_folder, tmp_path)
    with (run / "export" / "model.gguf").open("r+b") as handle:
        handle.truncate(1000)
    assert find_gguf(run) is None
    (run / "export" / "manifest.json").unlink()
    assert find_gguf(run) is None


def test_a_damaged_export_leaves_the_weights_to_answer(
    run_folder: pathlib.Path, tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = copied(run_folder, tmp_path)
    with (run / "export" / "model.gguf").open("r+b") as handle:
        handle.write(b"JUNK")
    (
        run / "export" / "signature.json"
    ).unlink()  # damage to what is signed looks like a change by somebody, and is refused
    backend = load_backend(run)
    assert backend.kind == "transformers" and "answering with the weights instead" in caplog.text
    assert backend.answer(asked("print hello"), Settings()).text == "echo hello"


def test_a_folder_without_a_model_is_one_clear_line(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ModelError, match="holds no trained model"):
        load_backend(tmp_path)


def test_the_quick_way_loads_no_torch_and_a_program_that_asks_nothing_ends(run_folder: pathlib.Path) -> None:
    script = (
        "import pathlib, sys\n"
        "from overseer_training.serving import chat, server\n"
        f"server.load_backend(pathlib.Path({str(run_folder)!r}))\n"
        "print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert (found.stdout, found.stderr) == ("[]\n", "")
