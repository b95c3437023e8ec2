"""AdamW on fp32 masters, with 16-bit copies for the matrix products.

Gradients of a step's micro-batches are added in fp32; where one micro-batch is the whole step they stay as they are. A step goes
through the weights in parts that fit into a processor's cache, and each part is read once: gradients, moments, masters, and the
copies that the model computes with. Where the model is fp32 the masters are its own weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from overseer_training.training.distributed import World

BETAS = (0.9, 0.95)  # chosen: the second one lower than Adam's default, as usual for language models
EPSILON = 1e-8
PART = 1 << 21  # numbers of the weights that are updated together; 40 MB with all that belongs to them


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
        self._sums: list[torch.Tensor | None] = [None] * len(self.masters)  # of gradients; None is zero
        matrices = [master for master in self.masters if master.dim() > 1]
        vectors = [master for master in self.masters if master.dim() <= 1]  # norms and biases are not decayed
        groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self._is_fused = self.masters[0].device.type in ("cpu", "cuda")
        self._adam = torch.optim.AdamW(
            [group for group in groups if group["params"]], lr=0.0, betas=BETAS, eps=EPSILON, fused=self._is_fused
        )

    @torch.no_grad()
    def add_gradients(self) -> None:
        """Add the gradients of one micro-batch to the sums: those of the first one as they are, and then in fp32."""
        for position, parameter in enumerate(self.parameters):
            gradient, total = parameter.grad, self._sums[position]
            if gradient is None:
                continue
            parameter.grad = None
            if total is None:
                self._sums[position] = gradient
            elif total.dtype == torch.float32:
                total.add_(gradient)
            else:
                self._sums[position] = total.float().add_(gradient)

    @torch.no_grad()
    def add_sums_of_all(self, world: World) -> None:
        """Make the sums those of all processes; every process ends up with the same bits."""
        if world.size > 1:
            sums = [
                torch.zeros_like(master) if total is None else total.float()
                for master, total in zip(self.masters, self._sums, strict=True)
            ]
            world.sum_tensors(sums)
            self._sums = [*sums]

    def drop_gradients(self) -> None:
        """Forget what a micro-batch left, for example one that ran out of memory."""
        for parameter in self.parameters:
            parameter.grad = None

    def drop_sums(self) -> None:
        """Forget the step that was under way."""
        self.drop_gradients()
        self._sums = [None] * len(self.masters)

    def step(self, learning_rate: float, max_grad_norm: float) -> float:
        """Apply the sums, scaled down to `max_grad_norm`, and clear them.

        Returns:
            The norm before scaling. When it is not finite, nothing was applied.
        """
        norms = [torch.linalg.vector_norm(total, dtype=torch.float32) for total in self._sums if total is not None]
        norm = float(torch.linalg.vector_norm(torch.stack(norms)))
        if math.isfinite(norm):
            for group in self._adam.param_groups:
                group["lr"] = learning_rate
            for part in self._parts():
                self._update(part, min(1.0, max_grad_norm / norm) if norm else 1.0)
        self.drop_sums()
        return norm

    @torch.no_grad()
    def _update(self, part: list[int], scale: float) -> None:
        """Apply the sums at these positions, multiplied by `scale`, and let go of them."""
        for position in part:
            total = self._sums[position]
            if total is not None:
                self.masters[position].grad = total.float().mul_(scale)
            self._sums[position] = total = None
        self._adam.step()  # of masters that have a gradient
        for position in part:
            self.masters[position].grad = None
            self._publish(position)

    def _parts(self) -> Iterator[list[int]]:
        """Positions of all weights in their order, as many together as PART allows, or one."""
        part: list[int] = []
        size = 0
        for position, master in enumerate(self.masters):
            if part and size + master.numel() > PART:
                yield part
                part, size = [], 0
            part.append(position)
            size += master.numel()
        if part:
            yield part

    @torch.no_grad()
    def publish(self) -> None:
        """Copy the masters into the weights that the model computes with."""
        for position in range(len(self.masters)):
            self._publish(position)

    def _publish(self, position: int) -> None:
        parameter, master = self.parameters[position], self.masters[position]
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

    def fits(self, weights: dict[str, torch.Tensor], moments: dict[str, torch.Tensor]) -> bool:
        """Whether these are of a model with the same parameters as this one."""
        own = {name: master.shape for name, master in zip(self.names, self.masters, strict=True)}
        found = {name: value.shape for name, value in weights.items()}
        parts = {f"{part}.{name}": shape for name, shape in own.items() for part in ("mean", "square")}
        return found == own and {name: value.shape for name, value in moments.items() if name != "step"} in ({}, parts)

    @torch.no_grad()
    def restore(self, weights: dict[str, torch.Tensor], moments: dict[str, torch.Tensor]) -> None:
        """Continue from what `state` returned."""
        for name, master in zip(self.names, self.masters, strict=True):
            master.copy_(weights[name])
            if f"mean.{name}" in moments:
                self._adam.state[master] = {
                    "step": self._count_for(master, moments["step"][0]),
                    "exp_avg": moments[f"mean.{name}"].to(master.device).clone(),
                    "exp_avg_sq": moments[f"square.{name}"].to(master.device).clone(),
                }
        self.publish()

    @torch.no_grad()
    def copy_from_first(self, world: World) -> None:
        """Continue from where the first process is."""
        if world.size == 1:
            return
        first = self._adam.state.get(self.masters[0])
        step = world.share(first["step"].cpu() if first else None)
        world.copy_from_first(self.masters)
        if step is not None:
            for master in self.masters:
                if master not in self._adam.state:
                    self._adam.state[master] = {
                        "step": self._count_for(master, step),
                        "exp_avg": torch.zeros_like(master),
                        "exp_avg_sq": torch.zeros_like(master),
                    }
                world.copy_from_first([self._adam.state[master][name] for name in ("exp_avg", "exp_avg_sq")])
        self.publish()

    def _count_for(self, master: torch.Tensor, step: torch.Tensor) -> torch.Tensor:
        """Adam's count of steps, where its kernels look for it: beside the weights if fused, else in RAM."""
        return step.to(master.device if self._is_fused else "cpu", copy=True)


def learning_rate_at(step: int, peak: float, warmup_steps: int, total_steps: int) -> float:
    """Rate of step `step`, counted from 0: linear up to `peak`, then linear down to zero.

    Source: Bergsma et al., "Straight to Zero", 2025, for the decay.
    """
    if step < warmup_steps:
        return peak * (step + 1) / warmup_steps
    return peak * max(0.0, (total_steps - step) / max(1, total_steps - warmup_steps))
