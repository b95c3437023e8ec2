"""Small models of every kind through the whole life: train, checkpoint, resume, save, load, generate."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from overseer_training.config.flags import build_parser
from overseer_training.config.load import load_configuration
from overseer_training.config.machine import find_machine
from overseer_training.config.plan import Plan
from overseer_training.config.resolve import resolve
from overseer_training.data.tokenize import tokenize
from overseer_training.errors import ConfigError
from overseer_training.models import load
from overseer_training.models.custom import build_custom_model, check_dimensions
from overseer_training.models.generate import generate
from overseer_training.prompts import with_system
from overseer_training.records import Example, Turn
from overseer_training.training.batches import Schedule
from overseer_training.training.checkpoint_paths import find_checkpoint
from overseer_training.training.checkpoints import load_checkpoint
from overseer_training.training.engine import Trainer
from overseer_training.training.stop_signals import StopSignals

DIMENSIONS = {
    "vocabulary_size": 400,
    "hidden_size": 32,
    "intermediate_size": 64,
    "layers": 2,
    "attention_heads": 4,
    "key_value_heads": 2,
    "checkpoint": None,
}
PAIRS = [(f"list files in {name}", f"ls {name}") for name in ("src", "docs", "logs", "tmp", "bin", "etc", "usr", "opt")]
EXAMPLES = [
    Example(f"row/{number}", "row", "command", (Turn("user", query), Turn("assistant", answer)), "linux", "test")
    for number, (query, answer) in enumerate(PAIRS)
]


def make_plan(*arguments: str) -> Plan:
    flags = build_parser().parse_args(
        [
            "--device",
            "cpu",
            "--precision",
            "fp32",
            "--micro-batch-size",
            "4",
            "--gradient-accumulation-steps",
            "2",
            "--warmup-steps",
            "1",
            "--ram-limit",
            "1.0",
            "--lora-rank",
            "4",
            *arguments,
        ]
    )
    return resolve(flags, load_configuration(), find_machine(), for_run=True)


@pytest.fixture
def llama_folder(tmp_path: pathlib.Path) -> pathlib.Path:
    folder = tmp_path / "llama"
    texts = [text for pair in PAIRS for text in pair]
    build_custom_model(DIMENSIONS, texts, folder, sequence_length=64, seed=1)
    return folder


@pytest.fixture
def gemma3n_folder(tmp_path: pathlib.Path, llama_folder: pathlib.Path) -> pathlib.Path:
    """Gemma 3n in small: per-layer inputs, AltUp, and every kind of layer before those that share keys and values."""
    from transformers import Gemma3nForCausalLM, Gemma3nTextConfig

    tokenizer = load.load_tokenizer(llama_folder)
    config = Gemma3nTextConfig(
        vocab_size=len(tokenizer),
        vocab_size_per_layer_input=len(tokenizer),
        hidden_size=64,
        hidden_size_per_layer_input=16,
        intermediate_size=[128] * 8,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        num_kv_shared_layers=4,
        altup_num_inputs=4,
        laurel_rank=8,
        sliding_window=64,
        max_position_embeddings=256,
        layer_types=["sliding_attention", "full_attention"] * 4,
        activation_sparsity_pattern=[0.0] * 8,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    torch.manual_seed(0)
    folder = tmp_path / "gemma3n"
    Gemma3nForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_trainer(base: pathlib.Path, plan: Plan, folder: pathlib.Path) -> tuple[Trainer, Any]:
    torch.manual_seed(plan.seed)
    tokenizer = load.load_tokenizer(base)
    tokens = tokenize(EXAMPLES, tokenizer, plan.sequence_length, load.stop_ids(tokenizer))
    model = load.load_to_train(base, base, plan, int(tokens.lengths.max()))
    model.train()
    return Trainer(model, tokens, tokens, plan, folder=folder, listener=lambda event: None), tokenizer


@pytest.mark.parametrize("kind", ["llama", "gemma3n"])
@pytest.mark.parametrize("method", ["full", "lora", "dora"])
def test_a_small_model_lives_its_whole_life(
    kind: str, method: str, request: pytest.FixtureRequest, tmp_path: pathlib.Path
) -> None:
    base: pathlib.Path = request.getfixturevalue(f"{kind}_folder")
    plan = make_plan("--method", method, "--max-steps", "6", "--epochs", "6")
    plan = plan.with_values({"effective_learning_rate": (5e-3, "test")})
    schedule = Schedule(len(EXAMPLES), plan.effective_batch_size, plan.epochs, plan.max_steps, plan.seed)
    whole, tokenizer = make_trainer(base, plan, tmp_path / "whole")
    before, _, _ = whole.validate()
    whole.run(schedule, StopSignals())
    assert whole.progress.best_loss is not None
    assert whole.progress.best_loss < before

    cut, _ = make_trainer(base, plan, tmp_path / "cut")
    stop = StopSignals()
    cut.listener = lambda event: (
        setattr(stop, "received", 15) if event["kind"] == "train" and event["step"] == 3 else None
    )
    stop.__class__ = type("Stop", (StopSignals,), {"exit_code": 143, "name": "SIGTERM"})
    cut.run(schedule, stop)
    resumed, _ = make_trainer(base, plan, tmp_path / "cut")
    resumed.restore(load_checkpoint(find_checkpoint(tmp_path / "cut")))
    assert resumed.progress.step == 3
    resumed.run(schedule, StopSignals())
    for left, right in zip(whole.optimizer.masters, resumed.optimizer.masters, strict=True):
        assert torch.equal(left, right)

    whole.use_best_weights()
    load.save_trained(whole.model, tokenizer, tmp_path / "model", base_name=kind, base_folder=base, method=method)
    loaded = load.load_trained(tmp_path / "model", dtype=torch.float32)
    messages = [with_system([Turn("user", query)]) for query, _ in PAIRS]
    together = generate(loaded, messages, max_new_tokens=6)
    alone = [generate(loaded, [message], max_new_tokens=6)[0] for message in messages]
    assert together == alone  # padding on the left changes no answer
    assert len(together) == len(PAIRS)


def test_an_adapter_that_was_merged_answers_like_the_trained_model(
    llama_folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    plan = make_plan("--method", "lora", "--max-steps", "4", "--epochs", "4")
    plan = plan.with_values({"effective_learning_rate": (2e-2, "test")})
    trainer, tokenizer = make_trainer(llama_folder, plan, tmp_path / "c")
    trainer.run(Schedule(len(EXAMPLES), 8, 4, 4, 1), StopSignals())
    load.save_trained(trainer.model, tokenizer, tmp_path / "m", base_name="x", base_folder=llama_folder, method="lora")
    merged = load.load_trained(tmp_path / "m", dtype=torch.float32).model
    ids = torch.arange(5, 25)[None]
    trainer.model.eval()
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, trainer.model(ids).logits, rtol=1e-3, atol=1e-4)
        untrained = AutoModelForCausalLM.from_pretrained(llama_folder)(ids).logits
    assert not torch.allclose(merged(ids).logits, untrained, atol=1e-3)


@pytest.mark.parametrize("method", ["full", "lora", "dora"])
def test_what_a_run_wrote_learns_on_from_where_it_stood(
    method: str, llama_folder: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    plan = make_plan("--method", method, "--max-steps", "4", "--epochs", "4")
    plan = plan.with_values({"effective_learning_rate": (2e-2, "test")})
    trainer, tokenizer = make_trainer(llama_folder, plan, tmp_path / "c")
    trainer.run(Schedule(len(EXAMPLES), 8, 4, 4, 1), StopSignals())
    written = tmp_path / "m"
    load.save_trained(trainer.model, tokenizer, written, base_name="x", base_folder=llama_folder, method=method)
    again = load.load_to_train(written, llama_folder, plan, 64)
    learns = {name for name, parameter in again.named_parameters() if parameter.requires_grad}
    assert learns == {name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad}
    ids = torch.arange(5, 25)[None]
    for model in (trainer.model, again):
        model.eval()
    with torch.no_grad():  # full weights are kept in bf16
        torch.testing.assert_close(again(ids).logits, trainer.model(ids).logits, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("kind", "untied"), [("llama", False), ("llama", True), ("gemma3n", False)])
def test_the_embeddings_of_a_pretrained_model_stay_as_they_are(
    kind: str, untied: bool, precision: str, request: pytest.FixtureRequest, tmp_path: pathlib.Path
) -> None:
    base: pathlib.Path = request.getfixturevalue(f"{kind}_folder")
    if untied:
        model = AutoModelForCausalLM.from_pretrained(base)
        model.config.tie_word_embeddings = False
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach() * 1.5)
        model.save_pretrained(base)
    plan = make_plan("--method", "full", "--max-steps", "3", "--epochs", "3", "--precision", precision)
    schedule = Schedule(len(EXAMPLES), plan.effective_batch_size, plan.epochs, plan.max_steps, plan.seed)
    changed = {}
    for learns in (False, True):
        trainer, _ = make_trainer(base, plan.with_values({"train_embeddings": (learns, "test")}), tmp_path / str(learns))
        before = {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}
        trainer.run(schedule, StopSignals())
        after = dict(trainer.model.named_parameters())
        changed[learns] = {name for name in before if not torch.equal(before[name], after[name])}
    embeddings = {name for name in changed[True] if "embed_tokens" in name or "lm_head" in name}
    assert len(embeddings) == {"llama": 1 + untied, "gemma3n": 2}[kind]
    assert changed[False] == changed[True] - embeddings
    assert len(changed[False]) > 10


def test_a_custom_model_is_a_function_of_its_seed(tmp_path: pathlib.Path) -> None:
    texts = [text for pair in PAIRS for text in pair]
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        build_custom_model(DIMENSIONS, texts, tmp_path / name, sequence_length=64, seed=seed)
    first, same, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert first == same
    assert first != other


def test_dimensions_that_cannot_be_are_all_named() -> None:
    with pytest.raises(ConfigError) as caught:
        check_dimensions({**DIMENSIONS, "hidden_size": 30, "key_value_heads": 3})
    assert len(caught.value.problems) == 2
