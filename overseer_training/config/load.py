"""Reads and checks training_config.py. All its problems come in one message."""

from __future__ import annotations

import dataclasses
import difflib
import pathlib
import runpy
from collections.abc import Mapping, Sequence
from typing import Any

from overseer_training.config.schema import CUSTOM_MODEL_KEYS, FIELDS, GATE_KEYS, PROFILE_NAMES, PROFILE_ONLY
from overseer_training.errors import ConfigError

CONFIG_PATH = pathlib.Path(__file__).parents[2] / "training_config.py"
GROUPS = (
    *("ai_config", "training_params", "lora_config", "data_config", "llm_config"),
    *("custom_model", "gate_config", "profiles"),
)


@dataclasses.dataclass(frozen=True)
class Configuration:
    """What the file says, parsed.

    Attributes:
        values: plan name -> value.
        profiles: profile name -> plan name -> value; only what differs.
    """

    values: Mapping[str, Any]
    profiles: Mapping[str, Mapping[str, Any]]
    custom_model: Mapping[str, Any]
    gate: Mapping[str, Any]
    kaggle_datasets: Sequence[Mapping[str, Any]]
    path: pathlib.Path


def load_configuration(path: pathlib.Path = CONFIG_PATH) -> Configuration:
    """Read `path`.

    Raises:
        ConfigError: it cannot be read, or has unknown names or values that are not allowed.
    """
    try:
        found = runpy.run_path(str(path))
    except (Exception, SystemExit) as error:  # the user's own code: whatever it raises is a problem of the file
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise ConfigError(
            [f"cannot read {path}{line}: {type(error).__name__}: {' '.join(str(error).split())}"]
        ) from error
    groups: dict[str, dict[str, Any]] = {}
    problems: list[str] = []
    for name in GROUPS:
        group = found.get(name)
        if not isinstance(group, dict):
            problems.append(f"{path.name} has no dictionary {name}")
            group = {}
        groups[name] = group
    values = _parse_values(groups, problems, path.name)
    profiles = _parse_profiles(groups["profiles"], problems, path.name)
    custom = _parse_group("custom_model", groups["custom_model"], CUSTOM_MODEL_KEYS, problems, path.name)
    gate = _parse_group("gate_config", groups["gate_config"], GATE_KEYS, problems, path.name)
    datasets = found.get("kaggle_datasets")
    if not isinstance(datasets, list) or not all(isinstance(entry, dict) for entry in datasets):
        problems.append(f"{path.name}: kaggle_datasets must be a list of dictionaries with 'slug' and 'kind'")
    if problems:
        raise ConfigError(problems)
    return Configuration(values, profiles, custom, gate, datasets or [], path)


def _parse_values(groups: dict[str, dict[str, Any]], problems: list[str], file: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in FIELDS:
        group = groups.get(field.group, {})
        if field.key not in group:
            problems.append(f"{file}: {field.group} lacks {field.key!r}")
            continue
        _parse_into(
            values, field.name, field.parse, group[field.key], f"{file}: {field.group}[{field.key!r}]", problems
        )
    for name in ("ai_config", "training_params", "lora_config", "data_config", "llm_config"):
        known = [field.key for field in FIELDS if field.group == name]
        problems += [_unknown(f"{file}: {name}", key, known) for key in groups.get(name, {}) if key not in known]
    return values


def _parse_profiles(profiles: dict[str, Any], problems: list[str], file: str) -> dict[str, dict[str, Any]]:
    parsed: dict[str, dict[str, Any]] = {}
    by_key = {field.name if field.name in PROFILE_ONLY else field.key: field for field in FIELDS}
    for name in PROFILE_NAMES:
        entries = profiles.get(name)
        if not isinstance(entries, dict):
            problems.append(f"{file}: profiles lacks {name!r}")
            continue
        parsed[name] = {}
        for key, value in entries.items():
            where = f"{file}: profiles[{name!r}]"
            if key not in by_key:
                problems.append(_unknown(where, key, list(by_key)))
                continue
            field = by_key[key]
            _parse_into(parsed[name], field.name, field.parse, value, f"{where}[{key!r}]", problems)
    problems += [
        _unknown(f"{file}: profiles", name, list(PROFILE_NAMES)) for name in profiles if name not in PROFILE_NAMES
    ]
    return parsed


def _parse_group(
    name: str, group: dict[str, Any], keys: Mapping[str, Any], problems: list[str], file: str
) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    for key, parse in keys.items():
        if key not in group:
            problems.append(f"{file}: {name} lacks {key!r}")
        else:
            _parse_into(parsed, key, parse, group[key], f"{file}: {name}[{key!r}]", problems)
    problems += [_unknown(f"{file}: {name}", key, list(keys)) for key in group if key not in keys]
    return parsed


def _parse_into(target: dict[str, Any], name: str, parse: Any, value: Any, where: str, problems: list[str]) -> None:
    try:
        target[name] = parse(value)
    except ValueError as error:
        problems.append(f"{where} must be {error}, not {value!r}")


def _unknown(where: str, key: Any, known: list[str]) -> str:
    near = difflib.get_close_matches(str(key), known, n=1)
    return f"{where} has no {key!r}" + (f"; did you mean {near[0]!r}?" if near else "")
