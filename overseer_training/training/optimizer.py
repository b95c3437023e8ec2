"""AdamW on fp32 masters, with 16-bit copies for the matrix products.

Gradients of each micro-batch are added to fp32 sums; the weights that the model computes with are copied from the masters once a
step. Where the model is fp32 the masters are its own weights.
"""

from __future__ import annotations

import math

import torch

BETAS = (0.9, 0.95)  # chosen: the second one lower than Adam's default, as usual for language models
EPSILON = 1e-8


class MasterAdamW:
    """Updates the trainable parameters of a model.

    Attributes:
        names: of the trainable parameters, in the order of everything else.
    """

    def __init__(self, model: torch.nn.Module, weight_decay: float) -> None:
        trainable = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        self.names = [name for name, _ in trainable]
        self.parameters = [parameter for _, parameter in trainable]
        self.masters = [
            parameter.detach() if parameter.dtype == torch.float32 else parameter.detach().float()
            for parameter in self.parameters
        ]
        self._sums: list[torch.Tensor] = [torch.zeros_like(master) for master in self.masters]
        self._is_empty = True  # the sums are zero
        matrices = [master for master in self.masters if master.dim() > 1]
        vectors = [master for master in self.masters if master.dim() <= 1]  # norms and biases are not decayed
        groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        is_fused = self.masters[0].device.type in ("cpu", "cuda")
        self._adam = torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=0.0, betas=BETAS, eps=EPSILON, fused=is_fused
        )

    @torch.no_grad()
    def add_gradients(self) -> None:
        """Move the gradients of one micro-batch into the sums."""
        for parameter, total in zip(self.parameters, self._sums, strict=True):
            if parameter.grad is None:
                continue
            if self._is_empty:
                total.copy_(parameter.grad)
            else:
                total.add_(parameter.grad)
        self._is_empty = False
        self.drop_gradients()

    def drop_gradients(self) -> None:
        """Forget what a micro-batch left, for example one that ran out of memory."""
        for parameter in self.parameters:
            parameter.grad = None

    def drop_sums(self) -> None:
        """Forget the step that was under way."""
        self.drop_gradients()
        if not self._is_empty:
            torch._foreach_zero_(self._sums)
        self._is_empty = True

    def step(self, learning_rate: float, max_grad_norm: float) -> float:
        """Apply the sums, scaled down to `max_grad_norm`, and clear them.

        Returns:
            The norm before scaling. When it is not finite, nothing was applied.
        """
        norm = float(torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(total) for total in self._sums])))
        if math.isfinite(norm):
            if norm > max_grad_norm:
                torch._foreach_mul_(self._sums, max_grad_norm / norm)
            for group in self._adam.param_groups:
                group["lr"] = learning_rate
            for master, total in zip(self.masters, self._sums, strict=True):
                master.grad = total
            self._adam.step()
            for master in self.masters:
                master.grad = None
            self.publish()
        self.drop_sums()
        return norm

    @torch.no_grad()
    def publish(self) -> None:
        """Copy the masters into the weights that the model computes with."""
        for parameter, master in zip(self.parameters, self.masters, strict=True):
            if parameter.data_ptr() != master.data_ptr():
                parameter.copy_(master)

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """(weights, moments) by name; moments are `mean.NAME`, `square.NAME` and the scalar `step`."""
        weights = dict(zip(self.names, self.masters, strict=True))
        moments: dict[str, torch.Tensor] = {}
        for name, master in weights.items():
            state = self._adam.state.get(master)
            if state:
                moments[f"mean.{name}"], moments[f"square.{name}"] = state["exp_avg"], state["exp_avg_sq"]
                moments["step"] = state["step"].reshape(1).cpu()
        return weights, moments

    @torch.no_grad()
    def restore(self, weights: dict[str, torch.Tensor], moments: dict[str, torch.Tensor]) -> None:
        """Continue from what `state` returned."""
        for name, master in zip(self.names, self.masters, strict=True):
            master.copy_(weights[name])
            if f"mean.{name}" in moments:
                self._adam.state[master] = {
                    "step": moments["step"][0].clone(),
                    "exp_avg": moments[f"mean.{name}"].to(master.device).clone(),
                    "exp_avg_sq": moments[f"square.{name}"].to(master.device).clone(),
                }
        self.publish()


def learning_rate_at(step: int, peak: float, warmup_steps: int, total_steps: int) -> float:
    """Rate of step `step`, counted from 0: linear up to `peak`, then linear down to zero.

    Source: Bergsma et al., "Straight to Zero", 2025, for the decay.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * max(0.0, (total_steps - step) / max(1, total_steps - warmup_steps))
