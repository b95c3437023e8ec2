"""The commands: `main_training.py` and `overseer`. Parses, calls a room, turns errors into one line and an exit code.

Rooms are imported inside the functions that need them, so that `--help` and `--plan` answer without loading torch.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence

from overseer_training.commands import data, doctor, guards, learn, model, serve, telemetry, tools
from overseer_training.config.flags import Parser, build_parser
from overseer_training.config.launch import find_launch
from overseer_training.errors import OverseerError, UsageError

# A full or failing disk, or missing rights: nothing that the program could mend, and no reason for a traceback.
DISK_PROBLEMS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM)
TOPICS = (model, serve, tools, telemetry, learn, data, guards, doctor)


def train_main(arguments: Sequence[str]) -> int:
    """`main_training.py` and `overseer train`."""
    return _guarded(lambda: _train(arguments))


def main(arguments: Sequence[str] | None = None) -> int:
    """`overseer COMMAND …`."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["train"]:
        return train_main(arguments[1:])
    return _guarded(lambda: _run_command(arguments))


def _guarded(run: Callable[[], int]) -> int:
    """Run a command; a person sees one line, the log has the traceback, the exit code is documented in errors.py."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        return run()
    except OverseerError as error:
        logging.getLogger(__name__).debug("failed", exc_info=error)
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:  # rooms import what they need when they are called
        print(
            f"error: {error.name} is not installed for this Python; run: make train (it sets up .venv)", file=sys.stderr
        )
        return UsageError.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 128 + signal.SIGINT
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")
        return 0
    except OSError as error:
        if error.errno not in DISK_PROBLEMS:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}; mend that and run the command again", file=sys.stderr)
        return OverseerError.exit_code


def _train(arguments: Sequence[str]) -> int:
    is_first = find_launch().rank == 0  # of the processes that torchrun started; it alone answers
    try:
        flags = build_parser().parse_args(arguments)
    except UsageError as error:
        if is_first:
            raise
        return error.exit_code
    if flags.llm_api_key:  # first of all, since until then every user of this machine can read it
        from overseer_training.teachers.keys import ApiKey, hide_from_process_title

        hide_from_process_title(ApiKey(flags.llm_api_key))
    from overseer_training import pipeline, planning

    if flags.plan and not is_first:
        return 0
    if flags.plan:
        plan, forecast = planning.make_plan(flags, for_run=False)
        print(plan.as_json(forecast), end="")
        return 0
    return pipeline.run(flags)


def _run_command(arguments: list[str]) -> int:
    flags = _build_parser().parse_args(arguments)
    if not hasattr(flags, "run"):
        raise UsageError("give a command; see overseer --help")
    code: int = flags.run(flags)
    return code


def _build_parser() -> Parser:
    parser = Parser(
        prog="overseer",
        description="Uses what was trained. `overseer train` takes the flags of main_training.py.",
        epilog='example: overseer ask "list the ten largest files below /var"',
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    commands.add_parser("train", help="train a model (see main_training.py --help)", add_help=False)
    for topic in TOPICS:
        topic.add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
