"""Simulated machines: series with a known cause for everything abnormal in them.

Takes a name, which is the seed; gives a `Recording` with `cpu_percent`, `memory_percent`, `disk_percent`, `load_1m` and
`network_mbit`. The README says what each generator does and where its numbers come from.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from overseer_training.telemetry.recordings import STEP_SECONDS, Incident, Recording, Values, seed_of

STEPS_PER_HOUR = 3600 // STEP_SECONDS
STEPS_PER_DAY = 24 * STEPS_PER_HOUR
EPOCH = 1_767_571_200  # Monday, 5 January 2026, 00:00 UTC
DEFAULT_DAYS = 14
PERIODIC_SHARE = 0.35  # of machines that run a job every few hours
OUT_OF_MEMORY = 97.0  # percent at which the kernel ends the process that leaks


@dataclasses.dataclass(frozen=True)
class _Machine:
    """What is constant of one machine; loads are in percent of all cores."""

    cores: int
    idle_cpu: float
    daily_cpu: float
    peak_hour: float
    weekend_factor: float
    noise: float
    memory: float
    disk: float
    disk_growth: float  # percent an hour, always there
    network: float  # mbit/s at full daily load
    job_period: int  # steps; 0 when the machine has no job
    job_length: int
    job_cpu: float


class _Course:
    """The series of a machine while they are being put together: what is asked of it, and what it shows."""

    def __init__(self, machine: _Machine, steps: int) -> None:
        self.machine = machine
        self.cpu = np.zeros(steps)  # demand, which may exceed 100
        self.memory = np.full(steps, machine.memory)
        self.disk = np.full(steps, machine.disk)
        self.network = np.zeros(steps)
        self.is_missing = np.zeros(steps, dtype=bool)
        self.incidents: list[Incident] = []


def simulate(name: str, days: int = DEFAULT_DAYS) -> Recording:
    """The machine that `name` stands for, over `days` from a Monday on; the same name gives the same bytes."""
    rng = np.random.default_rng(seed_of(name))
    steps = days * STEPS_PER_DAY
    course = _Course(_draw_machine(rng), steps)
    _daily_and_weekly(course, rng)
    _periodic_job(course, rng)
    place = int(rng.integers(STEPS_PER_DAY // 2, 2 * STEPS_PER_DAY))
    generators = (_memory_leak, _runaway_process, _log_growth, _traffic_burst)
    while place < steps - 6 * STEPS_PER_HOUR:
        end = generators[rng.integers(len(generators))](course, rng, place)
        place = end + int(rng.integers(10 * STEPS_PER_HOUR, 2 * STEPS_PER_DAY))
    _restarts(course, rng)
    _missing_samples(course, rng)
    return Recording(name, EPOCH, STEP_SECONDS, _observe(course, rng), tuple(course.incidents))


def _draw_machine(rng: np.random.Generator) -> _Machine:
    has_job = rng.random() < PERIODIC_SHARE
    return _Machine(
        cores=int(rng.choice([2, 4, 8, 16])),
        idle_cpu=rng.uniform(1, 20),
        daily_cpu=rng.uniform(3, 45),
        peak_hour=rng.uniform(9, 21),
        weekend_factor=rng.uniform(0.3, 1.1),
        noise=rng.uniform(0.5, 4),
        memory=rng.uniform(20, 65),
        disk=rng.uniform(20, 70),
        disk_growth=rng.uniform(0, 0.05),
        network=float(np.exp(rng.uniform(np.log(1), np.log(200)))),
        job_period=int(rng.choice([1, 2, 3, 4])) * STEPS_PER_HOUR if has_job else 0,
        job_length=int(rng.integers(2, 5)),
        job_cpu=rng.uniform(15, 50),
    )


def _daily_and_weekly(course: _Course, rng: np.random.Generator) -> None:
    """Load that follows people: a bump around the peak hour, less on Saturday and Sunday, noise that lasts some minutes."""
    machine, steps = course.machine, len(course.cpu)
    hour = np.arange(steps) / STEPS_PER_HOUR
    bump = np.exp(2.0 * (np.cos(2 * np.pi * (hour - machine.peak_hour) / 24) - 1))
    is_weekend = (hour // 24) % 7 >= 5
    activity = bump * np.where(is_weekend, machine.weekend_factor, 1.0) + _lasting_noise(rng, steps, 0.05, 0.97)
    activity = np.maximum(activity, 0.0)
    course.cpu += machine.idle_cpu + machine.daily_cpu * activity + _lasting_noise(rng, steps, machine.noise, 0.6)
    course.network += machine.network * (0.1 + activity) * np.exp(_lasting_noise(rng, steps, 0.15, 0.5))
    course.memory += 0.12 * machine.daily_cpu * activity + _lasting_noise(rng, steps, 0.4, 0.9)
    # Disk fills slowly, and is tidied once a week.
    course.disk += machine.disk_growth * (hour % (24 * 7)) + rng.normal(0, 0.03, steps)
    for start in rng.integers(0, steps, rng.poisson(2 * steps / STEPS_PER_DAY)):
        course.cpu[start : start + 1] += rng.uniform(10, 40)  # single spikes, which mean nothing


def _periodic_job(course: _Course, rng: np.random.Generator) -> None:
    """The same job every hour to four hours: processor for ten to twenty minutes. Not abnormal."""
    machine, steps = course.machine, len(course.cpu)
    if not machine.job_period:
        return
    for start in range(int(rng.integers(machine.job_period)), steps, machine.job_period):
        end = min(start + machine.job_length, steps)
        course.cpu[start:end] += machine.job_cpu * rng.uniform(0.85, 1.15)
        course.incidents.append(Incident("periodic_job", "cpu_percent", start, end))


def _memory_leak(course: _Course, rng: np.random.Generator, start: int) -> int:
    """Memory rises by 1.5 to 8 percent an hour until the kernel ends the process, or somebody does after at most 30 hours."""
    longest = min(int(rng.integers(8, 30)) * STEPS_PER_HOUR, len(course.memory) - start)
    growth = rng.uniform(1.5, 8) / STEPS_PER_HOUR * np.cumsum(rng.uniform(0.6, 1.4, longest))
    full = np.flatnonzero(course.memory[start : start + longest] + growth >= OUT_OF_MEMORY)
    end = start + (int(full[0]) if len(full) else longest)
    course.memory[start:end] += growth[: end - start]
    is_swapping = course.memory[start:end] > 92
    course.cpu[start:end] += np.where(is_swapping, rng.uniform(5, 20), 0.0)
    course.incidents.append(Incident("memory_leak", "memory_percent", start, end))
    return end


def _runaway_process(course: _Course, rng: np.random.Generator, start: int) -> int:
    """A process takes one or more cores whole, from one step to the next, for 1.5 to 8 hours, with no more traffic."""
    end = min(start + int(rng.integers(18, 96)), len(course.cpu))
    cores = max(1.0, rng.uniform(0.3, 1.0) * course.machine.cores)
    course.cpu[start:end] += 100 * cores / course.machine.cores
    course.memory[start:end] += rng.uniform(0, 3)
    course.incidents.append(Incident("runaway_process", "cpu_percent", start, end))
    return end


def _log_growth(course: _Course, rng: np.random.Generator, start: int) -> int:
    """Disk use rises by 0.7 to 4 percent an hour for 6 to 24 hours, then somebody deletes what was written."""
    end = min(start + int(rng.integers(6, 24)) * STEPS_PER_HOUR, len(course.disk))
    growth = rng.uniform(0.7, 4) / STEPS_PER_HOUR * np.cumsum(rng.uniform(0.7, 1.3, end - start))
    course.disk[start:end] += growth
    course.cpu[start:end] += rng.uniform(0, 3)
    course.incidents.append(Incident("log_growth", "disk_percent", start, end))
    return end


def _traffic_burst(course: _Course, rng: np.random.Generator, start: int) -> int:
    """Traffic of three to eight times the busiest hour for one to five hours, with the load that it brings; minutes to rise."""
    end = min(start + int(rng.integers(12, 60)), len(course.cpu))
    ramp = np.minimum(1.0, np.minimum(np.arange(1, end - start + 1), np.arange(end - start, 0, -1)) / rng.uniform(1, 5))
    course.network[start:end] += course.machine.network * rng.uniform(3, 8) * ramp * rng.uniform(0.8, 1.2, end - start)
    course.cpu[start:end] += rng.uniform(15, 70) * ramp
    course.memory[start:end] += rng.uniform(1, 6) * ramp
    course.incidents.append(Incident("traffic_burst", "network_mbit", start, end))
    return end


def _restarts(course: _Course, rng: np.random.Generator) -> None:
    """Every ten days or so: five to fifteen minutes without samples, then memory fills again within the hour."""
    steps = len(course.cpu)
    for start in sorted(rng.integers(STEPS_PER_DAY, steps, rng.poisson(steps / STEPS_PER_DAY / 10))):
        if any(incident.start - 2 <= start < incident.end + 2 for incident in course.incidents):
            continue
        down, end = start + int(rng.integers(1, 4)), min(start + 2 * STEPS_PER_HOUR, steps)
        course.is_missing[start:down] = True
        course.memory[start:end] *= 1 - 0.5 * np.exp(-np.arange(end - start) / (STEPS_PER_HOUR / 2))
        course.incidents.append(Incident("restart", "memory_percent", int(start), int(end)))


def _missing_samples(course: _Course, rng: np.random.Generator) -> None:
    """Three samples in a thousand, and once in ten days a stretch of ten minutes to an hour."""
    steps = len(course.cpu)
    course.is_missing |= rng.random(steps) < 0.003
    for start in rng.integers(0, steps, rng.poisson(steps / STEPS_PER_DAY / 10)):
        course.is_missing[start : start + int(rng.integers(2, 12))] = True


def _observe(course: _Course, rng: np.random.Generator) -> dict[str, Values]:
    """What a collector would see: saturation clips, and what a full processor cannot do waits and shows as load."""
    machine = course.machine
    demand = np.maximum(course.cpu, 0.3)
    queue = np.zeros(len(demand))
    for step in range(1, len(demand)):
        queue[step] = 0.7 * queue[step - 1] + max(demand[step] - 100, 0.0) / 100 * machine.cores
    load = machine.cores * np.minimum(demand, 100) / 100 + queue
    series = {
        "cpu_percent": np.clip(demand, 0, 100),
        "memory_percent": np.clip(course.memory, 2, 99.5),
        "disk_percent": np.clip(course.disk, 0, 100),
        "load_1m": load * np.exp(rng.normal(0, 0.1, len(load))),
        "network_mbit": course.network,
    }
    return {name: np.where(course.is_missing, np.nan, values.round(3)) for name, values in series.items()}


def _lasting_noise(rng: np.random.Generator, steps: int, spread: float, persistence: float) -> Values:
    """Noise whose values remember the one before: a first-order autoregressive process with standard deviation `spread`."""
    shocks = rng.normal(0, spread * np.sqrt(1 - persistence**2), steps)
    noise = np.empty(steps)
    last = 0.0
    for step, shock in enumerate(shocks):
        last = persistence * last + shock
        noise[step] = last
    return noise
