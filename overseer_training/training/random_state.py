"""The state of torch's random generators, as text for a checkpoint and back."""

from __future__ import annotations

import torch


def random_state(device: str) -> dict[str, str]:
    """Hexadecimal state of the processor's generator, and of `device`'s where it has one of its own (dropout is drawn there)."""
    states = {"cpu": torch.get_rng_state()}
    if device == "cuda":
        states[device] = torch.cuda.get_rng_state()
    elif device == "mps":
        states[device] = torch.mps.get_rng_state()
    return {name: state.cpu().numpy().tobytes().hex() for name, state in states.items()}


def set_random_state(states: dict[str, str], device: str) -> None:
    """Go on from what `random_state` gave; a device that it does not name keeps its state."""
    setters = {"cpu": torch.set_rng_state, "cuda": torch.cuda.set_rng_state, "mps": torch.mps.set_rng_state}
    for name in ("cpu", device):
        if name in states:
            setters[name](torch.frombuffer(bytearray.fromhex(states[name]), dtype=torch.uint8))
