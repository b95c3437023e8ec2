"""Simulated machines do what their labels say."""

from __future__ import annotations

import numpy as np
import pytest

from overseer_training.telemetry.recordings import Incident, Recording
from overseer_training.telemetry.simulate import STEPS_PER_DAY, simulate


@pytest.fixture(scope="module")
def machines() -> list[Recording]:
    return [simulate(f"machine-{number}") for number in range(30)]


def incidents(machines: list[Recording], cause: str) -> list[tuple[Recording, Incident]]:
    found = [(one, incident) for one in machines for incident in one.incidents or () if incident.cause == cause]
    assert len(found) >= 5
    return found


def test_a_name_is_a_machine(machines: list[Recording]) -> None:
    again = simulate("machine-3")
    assert again.incidents == machines[3].incidents
    for metric, values in again.series.items():
        assert np.array_equal(values, machines[3].series[metric], equal_nan=True)
        assert not np.array_equal(values, machines[4].series[metric], equal_nan=True)


def test_values_are_possible(machines: list[Recording]) -> None:
    for machine in machines:
        for metric, values in machine.series.items():
            assert np.nanmin(values) >= 0
            assert not metric.endswith("_percent") or np.nanmax(values) <= 100


@pytest.mark.parametrize(("cause", "metric"), [("memory_leak", "memory_percent"), ("log_growth", "disk_percent")])
def test_a_leak_and_growing_logs_rise_hour_by_hour(machines: list[Recording], cause: str, metric: str) -> None:
    for machine, incident in incidents(machines, cause):
        values = machine.series[metric]
        at_start = np.nanmean(values[incident.start - 6 : incident.start + 1])
        later = min(incident.start + 36, incident.end)
        assert np.nanmean(values[later - 6 : later]) > at_start + 0.3
        assert incident.metric == metric


def test_a_runaway_process_takes_processor_and_no_network_and_a_burst_takes_both(machines: list[Recording]) -> None:
    def ratio(machine: Recording, incident: Incident, metric: str) -> float:
        inside = np.nanmean(machine.series[metric][incident.start : incident.end])
        day = (
            slice(incident.start - STEPS_PER_DAY, incident.start)
            if incident.start > STEPS_PER_DAY
            else slice(0, incident.start)
        )
        return float(inside / np.nanmean(machine.series[metric][day]))

    runaways, bursts = incidents(machines, "runaway_process"), incidents(machines, "traffic_burst")
    assert np.median([ratio(*one, "cpu_percent") for one in runaways]) > 2
    assert np.median([ratio(*one, "network_mbit") for one in runaways]) < 1.5
    assert np.median([ratio(*one, "network_mbit") for one in bursts]) > 3
    assert np.median([ratio(*one, "cpu_percent") for one in bursts]) > 1.5


def test_load_rises_above_the_cores_only_where_the_processor_is_full(machines: list[Recording]) -> None:
    cpu = np.concatenate([one.series["cpu_percent"] for one in machines])
    load = np.concatenate([one.series["load_1m"] / np.nanquantile(one.series["load_1m"], 0.5) for one in machines])
    assert np.nanmedian(load[cpu >= 100]) > 1.5 * np.nanmedian(load[(cpu > 50) & (cpu < 70)])


def test_days_resemble_each_other(machines: list[Recording]) -> None:
    likeness = []
    for machine in machines:
        quiet = machine.series["network_mbit"].copy()
        for incident in machine.incidents or ():
            if incident.is_abnormal:
                quiet[incident.start : incident.end] = np.nan
        first, second = quiet[STEPS_PER_DAY : 2 * STEPS_PER_DAY], quiet[2 * STEPS_PER_DAY : 3 * STEPS_PER_DAY]
        known = np.isfinite(first) & np.isfinite(second)
        if known.sum() > STEPS_PER_DAY / 2:
            likeness.append(np.corrcoef(first[known], second[known])[0, 1])
    assert np.median(likeness) > 0.6


def test_some_samples_are_missing_and_restarts_lose_memory(machines: list[Recording]) -> None:
    missing = np.mean([np.isnan(one.series["cpu_percent"]).mean() for one in machines])
    assert 0.002 < missing < 0.02
    for machine, restart in incidents(machines, "restart"):
        memory = machine.series["memory_percent"]
        assert np.isnan(memory[restart.start])
        assert np.nanmean(memory[restart.start : restart.start + 8]) < np.nanmean(
            memory[restart.start - 8 : restart.start]
        )
