"""Damaged checkpoints: every flipped bit, cut, deleted or exchanged file is noticed, and the newest whole checkpoint is used."""

from __future__ import annotations

import itertools
import pathlib
import random
import shutil
from collections.abc import Callable

import pytest

from overseer_training.training.checkpoint_paths import FILES, find_checkpoint
from overseer_training.training.checkpoints import BEST, restore_best

from .victim import SOAK, Zygote, losses_of

OPTIONS = {"flags": {"max-steps": 12, "save-steps": 4, "eval-steps": 4}}
ALL = (*FILES, "manifest.json")


@pytest.fixture
def folder(undisturbed: Callable[..., object], tmp_path: pathlib.Path) -> pathlib.Path:
    """Checkpoints of steps 4, 8 and 12."""
    shutil.copytree(undisturbed(**OPTIONS).folder, tmp_path / "run", ignore=shutil.ignore_patterns(".events"))
    return tmp_path / "run" / "checkpoints"


def assert_passed_over(folder: pathlib.Path) -> None:
    said: list[str] = []
    assert find_checkpoint(folder, said.append).name == "step-000008"
    assert len(said) == 1 and said[0].startswith("checkpoint step-000012 is not used: ")


def test_every_flipped_bit_is_noticed(folder: pathlib.Path) -> None:
    rng = random.Random(0)
    for _ in range(300 * SOAK):
        path = folder / "step-000012" / rng.choice(ALL)
        whole = path.read_bytes()
        damaged = bytearray(whole)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        assert_passed_over(folder)
        path.write_bytes(whole)
    assert find_checkpoint(folder).name == "step-000012"


def test_every_cut_is_noticed(folder: pathlib.Path) -> None:
    rng = random.Random(0)
    for _ in range(100 * SOAK):
        path = folder / "step-000012" / rng.choice(ALL)
        whole = path.read_bytes()
        path.write_bytes(whole[: rng.randrange(len(whole))])
        assert_passed_over(folder)
        path.write_bytes(whole)


def test_every_deleted_file_is_noticed(folder: pathlib.Path) -> None:
    for count in range(1, len(ALL) + 1):
        for names in itertools.combinations(ALL, count):
            shutil.copytree(folder / "step-000012", folder / "kept")
            for name in names:
                (folder / "step-000012" / name).unlink()
            assert_passed_over(folder)
            shutil.rmtree(folder / "step-000012")
            (folder / "kept").rename(folder / "step-000012")


def test_every_exchanged_file_is_noticed(folder: pathlib.Path) -> None:
    for left, right in itertools.combinations(
        [(step, name) for step in ("step-000008", "step-000012") for name in ALL], 2
    ):
        paths = folder.joinpath(*left), folder.joinpath(*right)
        contents = [path.read_bytes() for path in paths]
        paths[0].write_bytes(contents[1])
        paths[1].write_bytes(contents[0])
        expected = (
            "step-000004" if left[0] != right[0] else "step-000008" if right[0] == "step-000012" else "step-000012"
        )
        assert find_checkpoint(folder).name == expected, (left, right)
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)


def test_checkpoints_that_changed_names_are_noticed(folder: pathlib.Path) -> None:
    (folder / "step-000008").rename(folder / "aside")
    (folder / "step-000012").rename(folder / "step-000008")
    (folder / "aside").rename(folder / "step-000012")
    said: list[str] = []
    assert find_checkpoint(folder, said.append).name == "step-000004"
    assert "it was written as step 8 and carries another name" in said[0]


def test_damaged_best_weights_are_noticed(folder: pathlib.Path) -> None:
    import json

    digest = json.loads((folder / "step-000012" / "state.json").read_text())["best_sha256"]
    assert restore_best(folder / "step-000012", digest)
    rng = random.Random(0)
    whole = (folder / "step-000012" / BEST).read_bytes()
    for _ in range(50 * SOAK):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        (folder / "step-000012" / BEST).write_bytes(damaged)
        assert not restore_best(folder / "step-000012", digest)
    (folder / "step-000012" / BEST).unlink()
    assert not restore_best(folder / "step-000012", digest)


def test_a_run_goes_on_from_the_newest_whole_checkpoint_and_says_so(
    zygote: Zygote, undisturbed: Callable[..., object], folder: pathlib.Path
) -> None:
    path = folder / "step-000012" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    victim = zygote.start(folder.parent, **OPTIONS)
    assert victim.wait() == 0
    assert "checkpoint step-000012 is not used: weights.safetensors is damaged or missing" in victim.output
    reference = undisturbed(**OPTIONS)
    assert reference.has(find_checkpoint(folder)) and find_checkpoint(folder).name == "step-000012"
    assert losses_of(folder.parent) == reference.losses


def test_a_run_goes_on_without_best_weights_that_are_damaged(zygote: Zygote, folder: pathlib.Path) -> None:
    for path in (folder / "step-000012", folder / BEST):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (folder / "step-000008" / BEST).write_bytes(b"damaged")
    victim = zygote.start(folder.parent, **OPTIONS)
    assert victim.wait() == 0
    metrics = (folder.parent / "metrics.jsonl").read_text()
    assert "are damaged or missing; the next ones count" in metrics
    assert find_checkpoint(folder).name == "step-000012"


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"rows": 41}, "was made with other training rows"),
        ({"size": 64}, "is of another model"),
        ({"layers": 1}, "is of another model"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(
    zygote: Zygote, folder: pathlib.Path, other: dict[str, int], message: str
) -> None:
    victim = zygote.start(folder.parent, **OPTIONS, **other)
    assert victim.wait() == 4
    assert victim.output.count("\n") == 1 and message in victim.output


def test_no_valid_checkpoint_is_one_line(zygote: Zygote, folder: pathlib.Path) -> None:
    for manifest in folder.glob("*/manifest.json"):
        manifest.write_text("")
    victim = zygote.start(folder.parent, **OPTIONS)
    assert victim.wait() == 4
    assert victim.output.splitlines()[-1] == f"error: no valid checkpoint in {folder}; start a new run"
