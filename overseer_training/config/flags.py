"""The flags of main_training.py and `overseer train`. Imports nothing heavy: `--help` answers at once."""

from __future__ import annotations

import argparse
import difflib
import pathlib
from collections.abc import Callable
from typing import NoReturn

from overseer_training.config.schema import FIELDS, Field
from overseer_training.errors import UsageError

EPILOG = """examples:
  python3 main_training.py --plan                        show every value and where it came from
  python3 main_training.py --time-budget 20m             train for about 20 minutes
  python3 main_training.py --cpu-only --epochs 3         smallest memory
  python3 main_training.py --mac                         Apple Silicon
  python3 main_training.py --resume-from-checkpoint latest

Profiles: --mac wins over --cpu-only, both win over --resource-efficient. Flags win over profiles, profiles over training_config.py.
Exit codes: 0 done, 2 wrong flags or configuration, 3 data, 4 model, 5 memory limit (checkpoint saved), 6 training,
7 sandbox, 8 teacher, 130 Ctrl-C and 143 SIGTERM (checkpoint saved)."""


class Parser(argparse.ArgumentParser):
    """Reports what is wrong in one line, with the nearest flag."""

    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized arguments: "):
            # Without its value: a mistyped --llm-api-key must not show the key.
            wrong = message.removeprefix("unrecognized arguments: ").split()[0].split("=")[0]
            near = difflib.get_close_matches(wrong, _options(self), n=1)
            message = f"unknown argument {wrong}; " + (f"did you mean {near[0]}?" if near else "see --help")
        raise UsageError(message)


def _options(parser: argparse.ArgumentParser) -> list[str]:
    """The flags of `parser` and of its subcommands."""
    found: list[str] = []
    for action in parser._actions:
        found += action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            found += [option for subparser in action.choices.values() for option in _options(subparser)]
    return found


def build_parser(program: str = "main_training.py") -> Parser:
    """The parser of a training run."""
    parser = Parser(
        prog=program,
        description="Turns a small open language model into a private system-management assistant for this machine.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    group = parser.add_argument_group("profiles")
    group.add_argument("--mac", action="store_true", help="Apple Silicon: MPS, no fp16, small memory")
    group.add_argument(
        "--resource-efficient", action="store_true", help="limited memory; evaluates and saves more often"
    )
    group.add_argument(
        "--cpu-only", action="store_true", help="no GPU at all, least memory; evaluates and saves most often"
    )
    group = parser.add_argument_group("data")
    group.add_argument("--download-data", action="store_true", help="fresh data sets from Kaggle")
    group.add_argument("--use-existing-data", action="store_true", help="the data of the newest run; never downloads")
    group.add_argument(
        "--continuous-learning", action="store_true", help="adds what was learned from your interactions"
    )
    group = parser.add_argument_group("teachers")
    group.add_argument("--llm-integration", action="store_true", help="other local models as teachers")
    group.add_argument("--llm-api-key", metavar="KEY", help="a Gemini API teacher; safer in GEMINI_API_KEY")
    group.add_argument(
        "--llm-hybrid", metavar="true|false", choices=("true", "false"), help="several teachers together"
    )
    _add_values(group, lambda field: field.group == "llm_config")
    group = parser.add_argument_group("run")
    group.add_argument("--resume-from-checkpoint", metavar="PATH|latest", help="goes on exactly where it stopped")
    group.add_argument(
        "--output-dir",
        metavar="DIR",
        type=pathlib.Path,
        default=pathlib.Path("runs"),
        help="where runs are kept (runs)",
    )
    group.add_argument("--run-name", metavar="NAME", help="folder of this run; a date and time without it")
    group.add_argument("--config", metavar="FILE", type=pathlib.Path, help="another training_config.py")
    group.add_argument("--plan", action="store_true", help="print the plan as JSON and end")
    group.add_argument("--no-export", action="store_true", help="leave out the GGUF file")
    group.add_argument("--quiet", action="store_true", help="lines instead of a live display")
    _add_values(
        parser.add_argument_group("values (also in training_config.py)"), lambda field: field.group != "llm_config"
    )
    return parser


def _add_values(group: argparse._ArgumentGroup, is_here: Callable[[Field], bool]) -> None:
    for field in FIELDS:
        if field.flag and is_here(field):
            metavar = (field.unit or field.name.rpartition("_")[2]).upper()
            group.add_argument(field.flag, dest=field.name, metavar=metavar, help=field.help)
