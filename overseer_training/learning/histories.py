"""Made-up histories of a machine and its owner, to measure how often `effects.py` is right: what made the machine better is known.

Takes a seed; gives interactions, rows as the telemetry store has them, and which commands truly had an effect. Most commands have none,
or make things worse for a while; much falls by itself: jobs end, logs are rotated, programs give memory back. All numbers are chosen.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from overseer_training.learning.interaction import Interaction
from overseer_training.telemetry.recordings import Values
from overseer_training.telemetry.store import MEAN_SECONDS, METRICS

STARTED = 1_767_225_600.0  # 2026-01-01 00:00 UTC
HOURS, INTERVAL_SECONDS = 36, 10
FIRST_HOUR = 5  # before it the owner does nothing, so that there is something usual
LOAD_SECONDS = 60.0  # the one-minute load forgets with this time constant
REMEDIES: dict[str, tuple[str, ...]] = {
    "disk": (
        "sudo journalctl --vacuum-size=200M", "docker system prune -f", "rm -r ~/.cache/pip", "sudo apt-get clean", "rm -rf ~/.cache/yarn",
        "find /tmp -mtime +7 -delete", "npm cache clean --force", "conda clean -a -y", "rm /srv/dumps/old.sql", "~/bin/make-room",
    ),
    "leak": ("sudo systemctl restart my-app", "pkill -f worker.py", "kill 4211", "docker restart web", "killall java"),
    "runaway": ("kill -9 31337", "pkill ffmpeg", "sudo systemctl stop indexer", "docker stop crawler", "~/bin/calm-down"),
}  # fmt: skip
WITHOUT_EFFECT = (
    "git commit -m fix", "git push", "git pull", "mkdir build", "cp notes.txt notes.bak", "mv a.txt b.txt", "touch todo", "chmod +x run.sh",
    "sed -i s/a/b/ config.ini", "systemctl reload nginx", "crontab -l", "rm notes.bak", "ln -s a b", "tar xf small.tar", "curl -sO https://example.org/x",
    "rm -r dist", "npm run clean", "git gc", "docker rm web-old", "mv report.pdf ~/docs", "systemctl restart nginx", "pkill -USR1 nginx", "docker restart cache",
    "python3 report.py", "git checkout main", "echo x > y", "kill -HUP 812", "docker pull alpine", "ls", "cd src", "git status", "vim main.py", "df -h", "cat log",
)  # fmt: skip
WORKS = ("make -j4", "cargo build", "pytest", "npm run build", "python3 train.py", "ffmpeg -i a.mkv b.mp4")


@dataclasses.dataclass(frozen=True)
class History:
    """What happened on a machine.

    Attributes:
        rows: as `telemetry.store.Store.rows` gives them.
        truth: (time of a command, metric) -> by how much the command lowered it.
    """

    interactions: tuple[Interaction, ...]
    rows: tuple[Mapping[str, Any], ...]
    truth: Mapping[tuple[float, str], float]


def simulate_history(seed: int, thinned: bool = False) -> History:
    """One machine for 36 hours; the same arguments give the same.

    Args:
        thinned: rows are 5-minute means, as the store keeps them after two days.
    """
    return _Machine(np.random.default_rng(seed)).live(thinned)


class _Machine:
    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.times = STARTED + INTERVAL_SECONDS * np.arange(HOURS * 3600 // INTERVAL_SECONDS)
        self.series: dict[str, Values] = {
            "disk_percent": rng.uniform(40, 90) + self._since_start() * rng.uniform(0, 0.2) + self._noise(0.01, 600),
            "memory_percent": rng.uniform(25, 65) + self._noise(rng.uniform(0.5, 2.5), 900),
            "swap_percent": rng.uniform(0, 20) + self._noise(0.1, 1800),
            "load_1m": rng.uniform(0.1, 1.5) + self._noise(rng.uniform(0.05, 0.3), 300),
        }
        self.interactions: list[Interaction] = []
        self.truth: dict[tuple[float, str], float] = {}

    def live(self, thinned: bool) -> History:
        """Everything that happens, in any order: it adds up."""
        rng = self.rng
        for _ in range(rng.poisson(10)):  # programs that come and go by themselves
            self._bump("memory_percent", self._any_time(), rng.uniform(120, 7200), rng.uniform(2, 20))
        for _ in range(rng.poisson(12)):
            self._bump("load_1m", self._any_time(), rng.uniform(120, 2400), rng.uniform(0.5, 6))
        for _ in range(rng.poisson(2)):  # logs grow and are rotated, downloads are made and moved away
            self._bump("disk_percent", self._any_time(), rng.uniform(1800, 36_000), rng.uniform(0.3, 4))
        if rng.random() < 1 / 3:
            every, long, high = rng.uniform(3600, 14_400), rng.uniform(600, 1200), rng.uniform(1, 4)
            for time in np.arange(STARTED, self.times[-1], every):
                self._bump("load_1m", time, long, high)
        for number in range(7):
            self._work(f"work-{number}")
        # Troubles come one at a time, as far as the owner can tell.
        for number, hour in enumerate(rng.permutation(np.arange(FIRST_HOUR + 4, HOURS - 3, 5))):
            time = STARTED + 3600 * (hour + rng.uniform(0, 3))
            self._trouble(str(rng.choice(list(REMEDIES))), time, f"trouble-{number}", ends_itself=rng.random() < 0.25)
        return History(tuple(sorted(self.interactions, key=lambda one: one.time)), self._rows(thinned), self.truth)

    def _trouble(self, kind: str, time: float, session: str, *, ends_itself: bool) -> None:
        """Something goes wrong from before `time` on; at `time` the owner ends it, unless it ends by itself about then."""
        rng, long = self.rng, self.rng.uniform(1800, 14_400)
        falls = {
            "disk": {"disk_percent": rng.uniform(0.5, 12)},
            "leak": {"memory_percent": rng.uniform(6, 35), **({"swap_percent": rng.uniform(6, 40)} if rng.random() < 0.4 else {})},
            "runaway": {"load_1m": rng.uniform(1.5, 8)},
        }[kind]  # fmt: skip
        end = time + rng.uniform(-1800, 1800) if ends_itself else time
        takes = rng.uniform(1, 90) if kind == "disk" else rng.uniform(1, 10)
        remains = 0.0 if kind == "disk" else rng.choice([0.0, 0.0, 0.0, 0.4])  # a service fills its memory again
        for metric, size in falls.items():
            full = self._ramp(end - long, long if kind != "runaway" else 60) - self._ramp(end, takes) * (1 - remains)
            self._add(metric, size * full)
            if not ends_itself:
                self.truth[time, metric] = size * (1 - remains)
        moment = time - rng.uniform(20, 400)
        for command in rng.choice(["df -h", "du -sh *", "free -m", "top -b -n 1", "ps aux"], rng.integers(1, 4)):
            moment = min(moment + rng.uniform(5, 60), time - 3)
            self._ran(moment, str(command), session)
        if not ends_itself:
            self._ran(time, str(rng.choice(REMEDIES[kind])), session)
            self._ran(time + takes + rng.uniform(2, 30), "df -h", session)
        if rng.random() < 0.3:  # something else soon after
            self._ran(time + takes + rng.uniform(35, 240), str(rng.choice(WITHOUT_EFFECT)), session)

    def _work(self, session: str) -> None:
        """An hour or so in a terminal: commands without effect, and some that use the machine until they end."""
        rng = self.rng
        time = STARTED + 3600 * rng.uniform(FIRST_HOUR, HOURS - 3)
        for _ in range(rng.integers(10, 35)):
            time += rng.choice([rng.uniform(3, 40), rng.uniform(40, 600)])
            if rng.random() < 0.2:
                long = rng.exponential(400) + 5
                self._ran(time, str(rng.choice(WORKS)), session, int(rng.random() < 0.2))
                self._bump("load_1m", time, long, rng.uniform(0.5, 6))
                self._bump("memory_percent", time, long, rng.uniform(1, 25))
                self._bump("disk_percent", time, long, rng.uniform(0, 0.6))  # temporary files
                time += long
            else:
                self._ran(time, str(rng.choice(WITHOUT_EFFECT)), session, int(rng.random() < 0.05))

    def _ran(self, time: float, command: str, session: str, exit_code: int = 0) -> None:
        self.interactions.append(Interaction(time, "shell", command=command, exit_code=exit_code, session=session))

    def _bump(self, metric: str, time: float, long: float, size: float) -> None:
        """Up at `time` and down again `long` seconds later."""
        self._add(metric, size * (self._ramp(time, 5) - self._ramp(time + long, 5)))

    def _add(self, metric: str, values: Values) -> None:
        self.series[metric] = self.series[metric] + values

    def _ramp(self, time: float, long: float) -> Values:
        """0 before `time`, 1 from `time + long` on."""
        return np.asarray(np.clip((self.times - time) / long, 0, 1))

    def _noise(self, spread: float, seconds: float) -> Values:
        """First-order autoregressive, with a standard deviation of `spread` and a memory of `seconds`."""
        keep = math.exp(-INTERVAL_SECONDS / seconds)
        steps = self.rng.normal(0, spread * math.sqrt(1 - keep**2), len(self.times))
        return _forgetting(steps, keep, self.rng.normal(0, spread))

    def _since_start(self) -> Values:
        return np.asarray((self.times - STARTED) / 3600)

    def _any_time(self) -> float:
        return float(self.rng.uniform(STARTED, self.times[-1]))

    def _rows(self, thinned: bool) -> tuple[dict[str, Any], ...]:
        top = {"load_1m": np.inf}
        keep = math.exp(-INTERVAL_SECONDS / LOAD_SECONDS)
        demand = self.series["load_1m"]
        self.series["load_1m"] = _forgetting((1 - keep) * demand, keep, demand[0])
        series = {name: np.clip(values, 0, top.get(name, 100)) for name, values in self.series.items()}
        times, resolution = self.times, "full"
        if thinned:
            step = MEAN_SECONDS // INTERVAL_SECONDS
            series = {name: values.reshape(-1, step).mean(axis=1) for name, values in series.items()}
            times, resolution = times[::step], "mean"
        empty = dict.fromkeys(METRICS)
        return tuple(
            {**empty, "time": float(time), "resolution": resolution, **{name: float(series[name][place]) for name in series}}
            for place, time in enumerate(times)
        )  # fmt: skip


def _forgetting(values: Values, keep: float, level: float) -> Values:
    """y[n] = keep * y[n - 1] + values[n], from y[-1] = level on."""
    return np.array(list(itertools.accumulate(values.tolist(), lambda y, x: keep * y + x, initial=level))[1:])
