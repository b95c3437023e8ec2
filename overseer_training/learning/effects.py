"""What made this machine better: commands after which disk use, memory, swap or load fell clearly and stayed down.

Takes interactions and what the collector stored; gives improvements, oldest first. Runs nothing. That something fell after a command
does not prove that the command was the reason: the README says what this cannot know, and how often it is wrong.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import re
from collections.abc import Iterator, Sequence

import numpy as np

from overseer_training.learning.interaction import Interaction
from overseer_training.learning.looking import only_looks
from overseer_training.telemetry.recordings import STEP_SECONDS, Values
from overseer_training.telemetry.stored import Stored

# All chosen on simulated histories with other seeds than those in the README.
BEFORE_SECONDS = 900  # looked at before a command
REACT_SECONDS = 300  # in which its effect shows
STAY_SECONDS = 900  # that the effect has to last, beyond
EDGE_SECONDS = 60  # right before a command, to see that the fall had not begun
LEAST_ROWS = 2  # on each side
STAYS_SHARE = 0.9  # of what is measured afterwards lies below the middle of the fall
USUAL_SECONDS, LEAST_USUAL_STEPS = 86_400, 24  # what is usual is seen in the day before, of which two hours are known
APART_STEPS = 4  # of 5 minutes: as far apart as the two sides are
USUAL_QUANTILE = 0.9  # a fall is clear when it is larger than that share of the usual ones, of which most are none
RISING_SECONDS = 3600
# Of the times that a command ran in trouble, those after which it was better: for one whose words say so, and for any other.
LEAST_SHARE, LEAST_OTHER_SHARE, LEAST_OTHER_TIMES = 0.25, 0.5, 2
FREES_SPACE = re.compile(
    r"(?i)(?<![a-z])(?:rm|rmi|rmdir|unlink|trash|remove|uninstall|delete|prune|clean|cleanup|autoclean|autoremove|purge|vacuum|truncate|gzip|bzip2"
    r"|xz|zstd|gc|logrotate|tmpwatch|fstrim|forget|compact|empty)(?![a-z])"
)
ENDS_PROGRAMS = re.compile(
    r"(?i)(?<![a-z])(?:(?:kill|pkill|killall|skill)(?! +-(?:s +)?(?:SIG)?(?:HUP|USR[12]|[01])\b)|xkill|kill-session|stop|restart|try-restart|down|pause|quit|renice|cpulimit|swapoff|drop_caches)(?![a-z])"
)


@dataclasses.dataclass(frozen=True)
class Watched:
    """When a metric is trouble, and what may end that.

    Attributes:
        least_fall: in the metric's unit, however steady it usually is.
        high: trouble from here on, however usual.
        words: of commands that are believed at the first time.
        shows_seconds: after which an effect can be seen; means of 5 minutes do not tell, and have `REACT_SECONDS`.
        ends_with_programs: whether what a program took is given back when it ends.
    """

    least_fall: float
    high: float
    words: re.Pattern[str]
    shows_seconds: float
    ends_with_programs: bool = True


WATCHED = {
    "disk_percent": Watched(0.5, 80, FREES_SPACE, 300, False),
    "memory_percent": Watched(5, 75, ENDS_PROGRAMS, 120),
    "swap_percent": Watched(5, 20, ENDS_PROGRAMS, 120),
    # How much load is high depends on the machine: only against what is usual.
    "load_1m": Watched(1, math.inf, ENDS_PROGRAMS, 240),
}


@dataclasses.dataclass(frozen=True)
class Improvement:
    """`metric` was at `before` when `command` was run, and at `after` some minutes later.

    Attributes:
        time: of the command, seconds since 1970.
        before, after: medians, percent or processes.
    """

    time: float
    metric: str
    before: float
    after: float
    command: str
    directory: str


@dataclasses.dataclass(frozen=True)
class _Moment:
    """When a command ran, and the owner's acting commands next to it: of all sessions, and the one before in its own."""

    time: float
    previous: float
    following: float
    previous_here: float


@dataclasses.dataclass(frozen=True)
class _Trouble:
    """What a metric that was high or rising did when a command ran; `is_over` where that may be the command's doing."""

    before: float
    after: float
    is_over: bool


def find_improvements(interactions: Sequence[Interaction], stored: Stored) -> list[Improvement]:
    """Commands of `interactions` that ended without error, each with every metric that it may have made better.

    A command whose words say that it frees space, or ends programs, is believed at the first time, unless it mostly ran without effect
    while the metric was high; any other one when the metric fell twice, and most of those times.
    """
    since = float(stored.starts[0]) if len(stored) else math.inf
    ran = [one for one in interactions if one.command and one.exit_code is not None and one.source in ("shell", "ask")]
    acting = [one for one in ran if one.time >= since and not only_looks(one.command)]
    acting.sort(key=lambda one: (one.time, one.id))
    usual = {metric: _usual_falls(stored, metric) for metric in WATCHED}
    troubles = [
        (one, metric, trouble)
        for one, moment in zip(acting, _moments(acting), strict=True)
        if one.succeeded
        for metric in WATCHED
        if (trouble := _look(stored, metric, moment, usual[metric])) is not None
    ]
    times = collections.Counter((one.command, metric) for one, metric, _ in troubles)
    over = collections.Counter((one.command, metric) for one, metric, trouble in troubles if trouble.is_over)
    return [
        Improvement(one.time, metric, trouble.before, trouble.after, one.command, one.directory)
        for one, metric, trouble in troubles
        if trouble.is_over and _is_believed(one.command, metric, over[one.command, metric], times[one.command, metric])
    ]


def _is_believed(command: str, metric: str, over: int, times: int) -> bool:
    if WATCHED[metric].words.search(command):
        return over >= LEAST_SHARE * times
    return over >= max(LEAST_OTHER_TIMES, LEAST_OTHER_SHARE * times)


def _moments(acting: Sequence[Interaction]) -> Iterator[_Moment]:
    newest: dict[str, float] = {}  # session -> time of its last command so far
    for position, one in enumerate(acting):
        yield _Moment(
            one.time,
            acting[position - 1].time if position else -math.inf,
            acting[position + 1].time if position + 1 < len(acting) else math.inf,
            newest.get(one.session, -math.inf),
        )
        newest[one.session] = one.time


def _look(stored: Stored, metric: str, moment: _Moment, usual: Values) -> _Trouble | None:
    """None where `metric` was neither high nor rising, or too little is known."""
    time, watched = moment.time, WATCHED[metric]
    # What the command before did has to have shown itself.
    start = min(max(time - BEFORE_SECONDS, moment.previous + REACT_SECONDS), time - EDGE_SECONDS)
    before = stored.between(metric, start, time)
    later = stored.between(metric, time + REACT_SECONDS, time + REACT_SECONDS + STAY_SECONDS)
    until = min(moment.following, time + watched.shows_seconds)
    shown = stored.between(metric, max(time, until - EDGE_SECONDS), until)
    seen = later if moment.following >= time + REACT_SECONDS else shown
    known = usual[_step(stored, time - USUAL_SECONDS) : max(0, _step(stored, time) - APART_STEPS)]
    known = known[np.isfinite(known)]
    if min(len(before), len(seen), len(later)) < LEAST_ROWS or len(known) < LEAST_USUAL_STEPS:
        return None
    high, low = float(np.median(before)), float(np.median(seen))
    clear = max(watched.least_fall, float(np.quantile(known, USUAL_QUANTILE)))
    if not _is_trouble(stored, metric, time, high, clear):
        return None
    middle = (high + low) / 2
    edge = stored.between(metric, time - EDGE_SECONDS, time)
    fell_before = bool(len(edge)) and float(np.median(edge)) < middle
    fell_late = bool(len(shown)) and float(np.median(shown)) > middle
    stays = float(np.mean(later < middle)) >= STAYS_SHARE
    # The command before may have taken what was given back, and have ended just then.
    is_own = not watched.ends_with_programs or _was_above(stored, metric, moment.previous_here, middle)
    return _Trouble(high, low, high - low >= clear and stays and is_own and not (fell_before or fell_late))


def _is_trouble(stored: Stored, metric: str, time: float, level: float, clear: float) -> bool:
    """Whether `level` was high, by itself or for this machine, or had risen within the hour."""
    day = stored.between(metric, time - USUAL_SECONDS, time)
    earlier = stored.between(metric, time - RISING_SECONDS - BEFORE_SECONDS, time - RISING_SECONDS)
    limits = [WATCHED[metric].high, *(float(np.median(some)) + clear / 2 for some in (day, earlier) if len(some))]
    return level >= min(limits)


def _was_above(stored: Stored, metric: str, time: float, level: float) -> bool:
    """Whether the metric was at `level` or above before `time` already, as far as that is known."""
    values = stored.between(metric, time - BEFORE_SECONDS, time)
    return not len(values) or float(np.median(values)) >= level


def _usual_falls(stored: Stored, metric: str) -> Values:
    """(steps,) by how much the metric falls from each 5-minute step on; NaN where that is not known."""
    means = stored.means(metric)
    return means[:-APART_STEPS] - means[APART_STEPS:]


def _step(stored: Stored, time: float) -> int:
    return max(0, int((time - stored.grid_start) // STEP_SECONDS))
