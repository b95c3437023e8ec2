"""The training loop: reads top to bottom like what it does.

Takes a model, token sets and a plan; emits events; leaves checkpoints and the best weights. Does not load, evaluate or export models.
"""

from __future__ import annotations

import array
import contextlib
import logging
import math
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from overseer_training.config.plan import Plan
from overseer_training.data.tokenize import TokenSet
from overseer_training.errors import MemoryLimitError, OverseerError, TrainingError
from overseer_training.models.choose import tokens_at_once
from overseer_training.training import batches, checkpoints, packing
from overseer_training.training.back_off import BackOff
from overseer_training.training.checkpointer import Checkpointer
from overseer_training.training.distributed import World
from overseer_training.training.loss import answer_loss, count_right
from overseer_training.training.memory_guard import MemoryGuard, MemoryReading
from overseer_training.training.optimizer import MasterAdamW, learning_rate_at
from overseer_training.training.progress import Outcome, Progress, Share
from overseer_training.training.stop_signals import StopSignals

logger = logging.getLogger(__name__)
Listener = Callable[[Mapping[str, Any]], None]
CARE_EVERY = 10  # steps, between two looks at the time budget and at memory that is kept without use
NOTEWORTHY_CHANGE = 0.02  # of the number of steps
BUDGET_TOLERANCE = 1.25  # a machine that became much slower than when the budget was fitted ends here
MOST_SKIPPED_STEPS = 5  # in a row
VALIDATION_ROWS = 256


class Trainer:
    """Trains `model` on `train` as `plan` says.

    Args:
        model: a causal language model, possibly with adapters; its trainable parameters learn.
        folder: where checkpoints are published.
        listener: is told everything that happens, as dictionaries with `kind`, `step` and `time`.
        world: the processes that train together, each with a trainer of its own. Each learns from its share of a step's rows; only
            the first one writes. None is this process alone.
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
        world: World | None = None,
    ) -> None:
        self.world = world or World()
        self.model, self.train_set, self.validation_set, self.plan = model, train, validation, plan
        self.folder, self.listener = folder, listener
        causal = model.get_base_model() if hasattr(model, "get_base_model") else model
        self._decoder = causal.get_decoder()
        self._head = causal.get_output_embeddings().weight
        self._softcap = getattr(causal.config.get_text_config(), "final_logit_softcapping", None)
        self.optimizer = MasterAdamW(model, plan.weight_decay)
        self.guard = MemoryGuard(plan.ram_limit, plan.gpu_limit, plan.device)
        self.progress = Progress()
        self.back_off = BackOff(
            self.guard, model, tokens_at_once(plan), lambda message: self._notice("memory_backoff", message)
        )
        self.checkpointer = Checkpointer(folder, self.optimizer, self.back_off, rows=train.digest, device=plan.device)
        self._lengths = array.array("i", train.lengths.astype(np.int32).tobytes())  # 4 bytes a row, plain numbers
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
        self._bring_back_best(resumed_from)
        try:
            outcome = self._heed_signals(self._run_steps(schedule, stop), stop)
        except TrainingError:
            self.optimizer.drop_sums()  # the weights are those of the last whole step
            with contextlib.suppress(OverseerError):  # the first problem is the one to tell
                self._save_what_is_new()
            raise
        self._save_what_is_new()
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
            skipped_steps=self.progress.skipped,
        )
        return outcome

    def _run_steps(self, schedule: batches.Schedule, stop: StopSignals) -> Outcome:
        """What is due at a step comes before the next one, so that a resumed run also does what its last process did not get to."""
        progress = self.progress
        while True:
            try:
                if self._is_validation_due():
                    self._validate_and_keep_best()
                if ending := self._find_ending():
                    return ending
                if progress.step and progress.step % self.plan.save_steps == 0:
                    self._save_what_is_new()
                if progress.step > self._first_step and progress.step % CARE_EVERY == 0:
                    self._fit_to_budget(schedule.total_steps)
                    self.guard.give_back_what_adds_up()
                is_done = self._train_step(schedule, stop)
            except MemoryLimitError as error:
                self.optimizer.drop_sums()
                return Outcome("memory_limit", progress, error.exit_code, f"{error}. A checkpoint is saved")
            if not is_done:
                self.optimizer.drop_sums()
                return self._interrupted(stop)

    def _is_validation_due(self) -> bool:
        progress = self.progress
        is_time = progress.step % self.plan.eval_steps == 0 or progress.step == progress.total_steps
        return is_time and progress.step > progress.validated_step

    def _find_ending(self) -> Outcome | None:
        """Why no further step is to come; None where one is."""
        progress, budget = self.progress, self.plan.time_budget_seconds
        if progress.validations_without_gain >= self.plan.early_stopping_patience:
            return Outcome("early_stop", progress, message=f"no better validation loss since step {progress.best_step}")
        if progress.step >= progress.total_steps:
            return Outcome("finished", progress)
        if budget and progress.step and self.world.share(self._elapsed()) > budget * BUDGET_TOLERANCE:
            if progress.validated_step < progress.step:
                self._validate_and_keep_best()
            message = f"the machine was slower than measured; stopped after {self._elapsed():.0f} s"
            return Outcome("time_budget", progress, message=message)
        return None

    def _heed_signals(self, outcome: Outcome, stop: StopSignals) -> Outcome:
        """`outcome`, or `interrupted` where a signal came during the last validation: what follows training takes long."""
        if outcome.reason in ("memory_limit", "interrupted"):
            return outcome
        stop.received = next((signal for signal in self.world.gather(stop.received) if signal), None)
        return self._interrupted(stop) if stop.is_asked else outcome

    def _interrupted(self, stop: StopSignals) -> Outcome:
        return Outcome("interrupted", self.progress, stop.exit_code, f"{stop.name}: saved a checkpoint and stopped")

    def _fit_to_budget(self, planned_steps: int) -> None:
        """Fewer steps than planned where the machine is slower than measured, so that the rate reaches zero in time."""
        progress, budget = self.progress, self.plan.time_budget_seconds
        if budget is None:
            return
        elapsed = self.world.share(self._elapsed())
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
        share = Share()
        try:
            share.loss, reading = self._learn_from_share(rows, answer_tokens, stop)
        except MemoryLimitError as error:
            share.problem = str(error)
        share.signal = stop.received
        shares = self._gather_shares(share)
        if asked := next((share.signal for share in shares if share.signal), None):
            stop.received = asked
            return False
        self.optimizer.add_sums_of_all(self.world)
        loss = sum(share.loss for share in shares)
        rate = learning_rate_at(progress.step, plan.effective_learning_rate, plan.warmup_steps, progress.total_steps)
        norm = self.optimizer.step(rate, plan.max_grad_norm) if math.isfinite(loss) else math.nan
        self.optimizer.drop_sums()
        progress.step += 1
        progress.examples += len(rows)
        tokens = sum(self._lengths[row] for row in rows)
        progress.tokens += tokens
        self._check_finite(loss, norm)
        seconds = time.monotonic() - started
        self._emit(
            "train",
            total_steps=progress.total_steps,
            loss=loss,
            learning_rate=rate,
            grad_norm=norm,
            answer_tokens=answer_tokens,
            tokens=tokens,
            tokens_per_second=tokens / seconds,
            examples_per_second=len(rows) / seconds,
            ram_fraction=reading.ram_fraction,
            process_rss_bytes=reading.process_rss_bytes,
            device_memory_bytes=reading.device_memory_bytes,
            micro_batch_size=self.token_budget // plan.sequence_length or 1,
        )
        return True

    def _learn_from_share(self, rows: list[int], answer_tokens: int, stop: StopSignals) -> tuple[float, MemoryReading]:
        """Gradients of this process's share of a step's rows; its part of the loss. Ends early when a signal came."""
        losses: list[float] = []

        def learn(micro: list[int]) -> None:
            try:
                losses.append(self._accumulate(micro, answer_tokens))
            except BaseException:
                self.optimizer.drop_gradients()
                raise

        waiting = self._split(rows, self._lengths)
        reading = self.back_off.run(waiting, self._lengths, learn, lambda: stop.is_asked)
        return sum(losses), reading

    def _split(self, rows: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
        """This process's share of `rows` in micro-batches."""
        share = batches.share_of(rows, lengths, self.world.rank, self.world.size)
        are_packed = packing.is_packed(self._decoder.config)
        return batches.split_by_tokens(share, lengths, self.token_budget, are_packed=are_packed)

    @property
    def token_budget(self) -> int:
        """Padded tokens that a micro-batch may have; fewer where memory ran short."""
        return self.back_off.token_budget

    @token_budget.setter
    def token_budget(self, tokens: int) -> None:
        self.back_off.token_budget = tokens

    def _gather_shares(self, share: Share) -> list[Share]:
        """Those of all processes; one that met a memory limit ends the work of all."""
        shares = self.world.gather(share)
        if problem := next((share.problem for share in shares if share.problem), ""):
            raise MemoryLimitError(problem)
        return shares

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

    # Validation and checkpoints.

    @torch.no_grad()
    def validate(self) -> tuple[float, float, int]:
        """(loss in nats per answer token, answer-token accuracy, answer tokens) on the validation rows."""
        share = Share()

        def measure(rows: list[int]) -> None:
            hidden_nd, targets_n = self._predict(self.validation_set, rows)
            loss = float(answer_loss(hidden_nd, self._head, targets_n, self._softcap))
            share.right += count_right(hidden_nd, self._head, targets_n)
            share.loss, share.count = share.loss + loss, share.count + len(targets_n)

        lengths = self.validation_set.lengths.tolist()
        self.model.eval()
        try:
            self.back_off.run(self._split(range(len(lengths)), lengths), lengths, measure)
        except MemoryLimitError as error:
            share.problem = str(error)
        self.model.train()
        shares = self._gather_shares(share)
        total_loss, right, count = (sum(getattr(part, name) for part in shares) for name in ("loss", "right", "count"))
        return total_loss / count, right / count, count

    def _validate_and_keep_best(self) -> None:
        progress = self.progress
        loss, accuracy, count = self.validate()
        self._emit("validation", loss=loss, token_accuracy=accuracy, n_tokens=count, n=len(self.validation_set))
        if math.isfinite(loss) and (progress.best_loss is None or loss < progress.best_loss):
            if self.world.rank == 0:
                progress.best_sha256 = self.checkpointer.save_best()
            progress.best_loss, progress.best_step, progress.validations_without_gain = loss, progress.step, 0
        else:
            progress.validations_without_gain += 1
        progress.validated_step = progress.step

    def _save_what_is_new(self) -> None:
        if self.checkpointer.saved_step != self.progress.step:
            self.save()

    def save(self) -> None:
        """Publish a checkpoint of this moment, which holds for any number of processes."""
        if self.world.rank != 0:
            return
        self.progress.seconds = self._elapsed()
        path = self.checkpointer.save(self.progress)
        self._notice("checkpoint", f"saved {path.name}")

    def restore(self, checkpoint: checkpoints.Checkpoint) -> None:
        """Go on from `checkpoint`; raises CheckpointError when it is not of this run."""
        self.progress = self.checkpointer.restore(checkpoint)

    def _bring_back_best(self, checkpoint: pathlib.Path | None) -> None:
        """Let the best weights be those of `checkpoint` again; later ones may have been kept since."""
        progress = self.progress
        if progress.best_loss is None:
            return
        is_there = checkpoint is None or checkpoints.restore_best(checkpoint, progress.best_sha256)
        if not all(self.world.gather(is_there)):
            progress.best_loss = None
            message = f"the best weights, of step {progress.best_step}, are damaged or missing; the next ones count"
            self._notice("info", message)

    def copy_from_first(self) -> None:
        """Go on from where the first process is, each with random numbers of its own."""
        self.progress, self.token_budget = self.world.share((self.progress, self.token_budget))
        self.optimizer.copy_from_first(self.world)
        if self.world.rank != 0:
            torch.manual_seed(self.plan.seed + self.world.rank)

    def use_best_weights(self) -> None:
        """Put the weights of the best validation into the model."""
        if self.progress.best_loss is not None and not self.checkpointer.use_best(self.progress.best_sha256):
            step = self.progress.best_step
            logger.warning("the best weights, of step %d, are damaged or missing: the last ones are used", step)

    def measure_step_seconds(self, schedule: batches.Schedule, repeats: int = 2) -> float:
        """Seconds of a step on this machine now, without the update of the weights, from `repeats` after a warm-up.

        Changes no weight and draws no random number.
        """
        rng = torch.get_rng_state()
        seconds = []
        for repeat in range(repeats + 1):
            started = time.monotonic()
            rows = schedule.rows_of_step(repeat % schedule.steps_per_epoch)
            self.back_off.run(self._split(rows, self._lengths), self._lengths, lambda micro: self._accumulate(micro, 1))
            self.optimizer.add_sums_of_all(self.world)
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

    def _check_finite(self, loss: float, norm: float) -> None:
        progress = self.progress
        if math.isfinite(loss) and math.isfinite(norm):
            progress.skipped_in_a_row = 0
            return
        progress.skipped += 1
        progress.skipped_in_a_row += 1
        self._notice("skipped_step", f"loss {loss}, gradient norm {norm}: the step was not applied")
        if progress.skipped_in_a_row >= MOST_SKIPPED_STEPS:
            raise TrainingError(
                f"{MOST_SKIPPED_STEPS} steps in a row were not finite; a checkpoint is saved. Start a new run with a lower "
                "--learning-rate or with --precision fp32"
            )
