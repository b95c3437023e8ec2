"""The training loop: reads top to bottom like what it does.

Takes a model, token sets and a plan; emits events; leaves checkpoints and the best weights. Does not load, evaluate or export models.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch

from overseer_training.config.plan import Plan
from overseer_training.data.tokenize import TokenSet
from overseer_training.errors import MemoryLimitError, TrainingError
from overseer_training.models.choose import tokens_at_once
from overseer_training.training import batches, checkpoints, packing
from overseer_training.training.allocator import give_back_freed_memory
from overseer_training.training.loss import answer_loss, count_right
from overseer_training.training.memory_guard import MemoryGuard, MemoryReading, free_caches, is_out_of_memory
from overseer_training.training.optimizer import MasterAdamW, learning_rate_at
from overseer_training.training.stop_signals import StopSignals

Listener = Callable[[Mapping[str, Any]], None]
Reason = Literal["finished", "early_stop", "time_budget", "interrupted", "memory_limit"]
CARE_EVERY = 10  # steps, between two looks at the time budget and at memory that is kept without use
NOTEWORTHY_CHANGE = 0.02  # of the number of steps
BUDGET_TOLERANCE = 1.25  # a machine that became much slower than when the budget was fitted ends here
MOST_SKIPPED_STEPS = 5  # in a row
VALIDATION_ROWS = 256


@dataclasses.dataclass
class Progress:
    """Everything that changes while training, and is saved with it."""

    step: int = 0
    total_steps: int = 0
    tokens: int = 0
    examples: int = 0
    seconds: float = 0.0
    best_loss: float | None = None
    best_step: int = 0
    validations_without_gain: int = 0
    skipped_in_a_row: int = 0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How training ended."""

    reason: Reason
    progress: Progress
    exit_code: int = 0
    message: str = ""


class Trainer:
    """Trains `model` on `train` as `plan` says.

    Args:
        model: a causal language model, possibly with adapters; its trainable parameters learn.
        folder: where checkpoints are published.
        listener: is told everything that happens, as dictionaries with `kind`, `step` and `time`.
    """

    def __init__(
        self,
        model: Any,
        train: TokenSet,
        validation: TokenSet,
        plan: Plan,
        *,
        folder: pathlib.Path,
        listener: Listener,
    ) -> None:
        self.model, self.train_set, self.validation_set, self.plan = model, train, validation, plan
        self.folder, self.listener = folder, listener
        causal = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._decoder = causal.get_decoder()
        self._head = causal.get_output_embeddings().weight
        self._softcap = getattr(causal.config.get_text_config(), "final_logit_softcapping", None)
        self.optimizer = MasterAdamW(model, plan.weight_decay)
        self.guard = MemoryGuard(plan.ram_limit, plan.gpu_limit, plan.device)
        self.progress = Progress()
        self.token_budget = tokens_at_once(plan)
        self._lengths = train.lengths.tolist()
        self._first_step, self._first_second = 0, 0.0  # of this process
        self._started = time.monotonic()

    # What a run does.

    def run(self, schedule: batches.Schedule, stop: StopSignals, resumed_from: pathlib.Path | None = None) -> Outcome:
        """Train until the schedule, the budget, patience, memory or a person ends it; always leaves a checkpoint."""
        self._started = time.monotonic() - self.progress.seconds
        self._first_step, self._first_second = self.progress.step, self.progress.seconds
        self.progress.total_steps = min(self.progress.total_steps or schedule.total_steps, schedule.total_steps)
        self._emit(
            "start",
            total_steps=self.progress.total_steps,
            examples=schedule.rows,
            time_budget_seconds=self.plan.time_budget_seconds,
            ram_limit=self.plan.ram_limit,
            gpu_limit=self.plan.gpu_limit or None,
            resumed_from=str(resumed_from) if resumed_from else None,
        )
        outcome = self._run_steps(schedule, stop)
        self.save()
        if outcome.message:
            self._notice("stop", outcome.message)
        self._emit(
            "end",
            reason=outcome.reason,
            best_step=self.progress.best_step,
            best_validation_loss=self.progress.best_loss,
            peak_rss_bytes=self.guard.peak_rss_bytes,
            peak_ram_fraction=self.guard.peak_ram_fraction,
            tokens=self.progress.tokens,
            examples=self.progress.examples,
        )
        return outcome

    def _run_steps(self, schedule: batches.Schedule, stop: StopSignals) -> Outcome:
        plan, progress = self.plan, self.progress
        while progress.step < progress.total_steps:
            try:
                is_done = self._train_step(schedule, stop)
            except MemoryLimitError as error:
                self.optimizer.drop_sums()
                return Outcome("memory_limit", progress, error.exit_code, str(error))
            if not is_done:
                self.optimizer.drop_sums()
                return Outcome("interrupted", progress, stop.exit_code, f"{stop.name}: saved a checkpoint and stopped")
            is_last = progress.step == progress.total_steps
            if progress.step % plan.eval_steps == 0 or is_last:
                self._validate_and_keep_best()
                if progress.validations_without_gain >= plan.early_stopping_patience:
                    return Outcome(
                        "early_stop", progress, message=f"no better validation loss since step {progress.best_step}"
                    )
            if progress.step % plan.save_steps == 0 and not is_last:
                self.save()
            if progress.step % CARE_EVERY == 0 and not is_last:
                self._fit_to_budget(schedule.total_steps)
                give_back_freed_memory()
            budget = plan.time_budget_seconds
            if budget and not is_last and self._elapsed() > budget * BUDGET_TOLERANCE:
                self._validate_and_keep_best()
                return Outcome(
                    "time_budget",
                    progress,
                    message=f"the machine was slower than measured; stopped after {self._elapsed():.0f} s",
                )
        return Outcome("finished", progress)

    def _fit_to_budget(self, planned_steps: int) -> None:
        """Fewer steps than planned where the machine is slower than measured, so that the rate reaches zero in time."""
        progress, budget = self.progress, self.plan.time_budget_seconds
        if budget is None:
            return
        elapsed = self._elapsed()
        seconds = (elapsed - self._first_second) / (progress.step - self._first_step)
        total = min(planned_steps, progress.step + max(1, int((budget - elapsed) / seconds)))
        if abs(total - progress.total_steps) > NOTEWORTHY_CHANGE * progress.total_steps:
            message = f"{seconds:.1f} s a step: {total} steps in the time budget, not {progress.total_steps}"
            self._notice("schedule", message)
        progress.total_steps = total

    def _train_step(self, schedule: batches.Schedule, stop: StopSignals) -> bool:
        """One optimizer step; False when a signal came before it was complete, which leaves the weights as they were."""
        plan, progress = self.plan, self.progress
        started = time.monotonic()
        rows = schedule.rows_of_step(progress.step)
        answer_tokens = batches.answer_tokens(self.train_set, rows)
        loss, waiting = 0.0, batches.split_by_tokens(rows, self._lengths, self.token_budget)
        reading = self.guard.read()
        while waiting:
            if stop.is_asked:
                return False
            reading = self.guard.read()
            if problem := self.guard.problem(reading):
                waiting = self._back_off(waiting, problem)
                continue
            try:
                loss += self._accumulate(waiting[0], answer_tokens)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self.optimizer.drop_gradients()
                waiting = self._back_off(waiting, "out of memory")
                continue
            waiting.pop(0)
        rate = learning_rate_at(progress.step, plan.effective_learning_rate, plan.warmup_steps, progress.total_steps)
        norm = self.optimizer.step(rate, plan.max_grad_norm)
        progress.step += 1
        progress.examples += len(rows)
        tokens = sum(self._lengths[row] for row in rows)
        progress.tokens += tokens
        self._check_finite(loss, norm)
        self._emit_step(loss, rate, norm, answer_tokens, tokens, len(rows), time.monotonic() - started, reading)
        return True

    def _accumulate(self, rows: list[int], answer_tokens: int) -> float:
        """Forward and backward of one micro-batch; its share of the step's loss, in nats per answer token."""
        hidden_nd, targets_n = self._predict(self.train_set, rows)
        loss = answer_loss(hidden_nd, self._head, targets_n, self._softcap, answer_tokens)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.add_gradients()
        return float(loss.detach())

    def _predict(self, tokens: TokenSet, rows: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden states that predict the rows' answer tokens (n, width), and those tokens (n,)."""
        batch = packing.make_batch(tokens, rows, self._decoder.config, self._head.dtype, self.plan.device)
        hidden_btd = self._decoder(**batch.inputs, use_cache=False).last_hidden_state
        return hidden_btd.flatten(0, 1).index_select(0, batch.predicting_n), batch.targets_n

    # Memory.

    def _back_off(self, waiting: list[list[int]], problem: str) -> list[list[int]]:
        """The waiting rows in smaller micro-batches: the same examples, the same step.

        Raises:
            MemoryLimitError: single rows are already too much.
        """
        free_caches(self.plan.device)
        if not self.guard.problem(self.guard.read()) and problem != "out of memory":
            return waiting
        rows = [row for batch in waiting for row in batch]
        if all(len(batch) == 1 for batch in waiting):
            raise MemoryLimitError(
                f"{problem} with one row at a time; saved a checkpoint. Close programs, raise --ram-limit, or use a shorter "
                "--sequence-length, a smaller --base-model or --method lora, then --resume-from-checkpoint latest"
            )
        largest = max(len(batch) * packing.padded_length(self._lengths[batch[0]]) for batch in waiting)
        self.token_budget = max(1, min(self.token_budget, largest) // 2)
        self._notice("memory_backoff", f"{problem}: micro-batches of at most {self.token_budget} tokens from here on")
        return batches.split_by_tokens(rows, self._lengths, self.token_budget)

    # Validation and checkpoints.

    @torch.no_grad()
    def validate(self) -> tuple[float, float, int]:
        """(loss in nats per answer token, answer-token accuracy, answer tokens) on the validation rows."""
        self.model.eval()
        total_loss, right, count = 0.0, 0, 0
        for rows in batches.evaluation_batches(self.validation_set, self.token_budget):
            hidden_nd, targets_n = self._predict(self.validation_set, rows)
            total_loss += float(answer_loss(hidden_nd, self._head, targets_n, self._softcap))
            right += count_right(hidden_nd, self._head, targets_n)
            count += len(targets_n)
        self.model.train()
        return total_loss / count, right / count, count

    def _validate_and_keep_best(self) -> None:
        progress = self.progress
        loss, accuracy, count = self.validate()
        self._emit("validation", loss=loss, token_accuracy=accuracy, n_tokens=count, n=len(self.validation_set))
        if progress.best_loss is None or loss < progress.best_loss:
            progress.best_loss, progress.best_step, progress.validations_without_gain = loss, progress.step, 0
            checkpoints.save_best(self.folder, dict(zip(self.optimizer.names, self.optimizer.parameters, strict=True)))
        else:
            progress.validations_without_gain += 1

    def save(self) -> pathlib.Path:
        """Publish a checkpoint of this moment."""
        self.progress.seconds = self._elapsed()
        weights, moments = self.optimizer.state()
        state = {
            **dataclasses.asdict(self.progress),
            "token_budget": self.token_budget,
            "rng": torch.get_rng_state().numpy().tobytes().hex(),
        }
        path = checkpoints.save_checkpoint(self.folder, checkpoints.Checkpoint(weights, moments, state))
        self._notice("checkpoint", f"saved {path.name}")
        return path

    def restore(self, checkpoint: checkpoints.Checkpoint) -> None:
        """Go on from `checkpoint`."""
        state = dict(checkpoint.state)
        rng = bytes.fromhex(state.pop("rng"))
        self.token_budget = min(self.token_budget, state.pop("token_budget"))
        self.optimizer.restore(checkpoint.weights, checkpoint.moments)
        self.progress = Progress(**state)
        torch.set_rng_state(torch.frombuffer(bytearray(rng), dtype=torch.uint8))

    @torch.no_grad()
    def use_best_weights(self) -> None:
        """Put the weights of the best validation into the model."""
        best = checkpoints.load_best(self.folder)
        if best is None:
            return
        for name, parameter in zip(self.optimizer.names, self.optimizer.parameters, strict=True):
            parameter.copy_(best[name])

    def measure_step_seconds(self, schedule: batches.Schedule, repeats: int = 2) -> float:
        """Seconds of a step on this machine now, from `repeats` after a warm-up; changes no weight and draws no random number."""
        rng = torch.get_rng_state()
        seconds = []
        for repeat in range(repeats + 1):
            started = time.monotonic()
            rows = schedule.rows_of_step(repeat % schedule.steps_per_epoch)
            for micro in batches.split_by_tokens(rows, self._lengths, self.token_budget):
                self._accumulate(micro, 1)
            self.optimizer.drop_sums()
            seconds.append(time.monotonic() - started)
        torch.set_rng_state(rng)
        return sum(seconds[1:]) / repeats

    # Telling.

    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _emit(self, kind: str, **fields: Any) -> None:
        self.listener({"kind": kind, "step": self.progress.step, "time": round(self._elapsed(), 3), **fields})

    def _notice(self, event: str, message: str) -> None:
        self._emit("notice", event=event, message=message)

    def _emit_step(
        self,
        loss: float,
        rate: float,
        norm: float,
        answers: int,
        tokens: int,
        examples: int,
        seconds: float,
        reading: MemoryReading,
    ) -> None:
        self._emit(
            "train",
            total_steps=self.progress.total_steps,
            loss=loss,
            learning_rate=rate,
            grad_norm=norm,
            answer_tokens=answers,
            tokens=tokens,
            tokens_per_second=tokens / seconds,
            examples_per_second=examples / seconds,
            ram_fraction=reading.ram_fraction,
            process_rss_bytes=reading.process_rss_bytes,
            device_memory_bytes=reading.device_memory_bytes,
            micro_batch_size=self.token_budget // self.plan.sequence_length or 1,
        )

    def _check_finite(self, loss: float, norm: float) -> None:
        progress = self.progress
        if math.isfinite(loss) and math.isfinite(norm):
            progress.skipped_in_a_row = 0
            return
        progress.skipped_in_a_row += 1
        self._notice("skipped_step", f"loss {loss}, gradient norm {norm}: the step was not applied")
        if progress.skipped_in_a_row >= MOST_SKIPPED_STEPS:
            self.save()
            raise TrainingError(
                f"{MOST_SKIPPED_STEPS} steps in a row were not finite; lower --learning-rate or use --precision fp32"
            )
