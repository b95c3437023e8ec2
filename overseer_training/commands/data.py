"""Commands for what is learned from: verify, sources, programs, overlap, repairs."""

from __future__ import annotations

import argparse
import itertools
import pathlib
import random
import sys
from typing import Any

from overseer_training.commands.model import LATEST
from overseer_training.config.flags import Parser
from overseer_training.errors import UsageError

COMPOSED_PROOFS = 200  # of each composition, when the whole corpus is verified


def add(commands: Any) -> None:
    """Add the parsers of this topic."""
    data = commands.add_parser("data", help="what the corpus holds, and its proof", allow_abbrev=False)
    actions = data.add_subparsers(title="actions", metavar="ACTION", parser_class=Parser, required=True)
    verify = actions.add_parser("verify", help="run every command of the corpus in its fixture", allow_abbrev=False)
    verify.add_argument("files", nargs="*", type=pathlib.Path, help="corpus files; all without any")
    verify.add_argument("--sample", type=int, metavar="N", help="only N families and dialogues, drawn at random")
    verify.add_argument("--seed", type=int, default=0, metavar="N", help="of the sample (0)")
    verify.set_defaults(run=_verify)
    sources = actions.add_parser("sources", help="what there is to learn from on this machine", allow_abbrev=False)
    sources.add_argument("files", nargs="*", help="files of your own: what they would give")
    sources.set_defaults(run=_sources)
    programs = actions.add_parser(
        "programs", help="ask installed programs for their --help in the sandbox, for --sources help", allow_abbrev=False
    )
    programs.set_defaults(run=_programs)
    overlap = actions.add_parser(
        "overlap", help="whether training rows share texts with a benchmark of yours", allow_abbrev=False
    )
    overlap.add_argument("benchmark", type=pathlib.Path, help="a folder or file (JSON, CSV, text)")
    overlap.add_argument(
        "--run", type=pathlib.Path, default=LATEST, dest="run_folder", metavar="DIR", help="the run (runs/latest)"
    )
    overlap.set_defaults(run=_overlap)
    repairs = actions.add_parser(
        "repairs", help="make rows of error recovery: run broken forms of the corpus's commands", allow_abbrev=False
    )
    repairs.add_argument("--each", type=int, default=1, metavar="N", help="repairs of a family, at most (1)")
    repairs.add_argument(
        "--output", type=pathlib.Path, default=pathlib.Path("corpus/repairs.jsonl"), metavar="FILE",
        help="a file of JSON lines (corpus/repairs.jsonl)",
    )  # fmt: skip
    repairs.set_defaults(run=_make_repairs)


def _verify(flags: argparse.Namespace) -> int:
    from overseer_training.data.compose import load_compositions
    from overseer_training.data.sources.corpus import load_families, load_fixture_scripts
    from overseer_training.data.sources.dialogues import load_dialogues
    from overseer_training.evaluation.proof import (
        Proof,
        Unit,
        format_counts,
        format_proof,
        prove,
        prove_composition,
    )
    from overseer_training.evaluation.sandbox import find_sandbox

    if flags.sample is not None and flags.sample < 1:
        raise UsageError(f"--sample must be 1 or more, not {flags.sample}")
    units: list[Unit] = []
    for path in flags.files:
        units += load_dialogues(path) if path.parent.name == "dialogues" else load_families(path)
    units = units or [*load_families(), *load_dialogues()]
    if flags.sample is not None:
        units = random.Random(flags.seed).sample(units, min(flags.sample, len(units)))
    proofs: list[Proof] = []
    scripts, sandbox = load_fixture_scripts(), find_sandbox()
    composed = 0 if flags.files else flags.sample or COMPOSED_PROOFS
    compositions = load_compositions()
    samples = (prove_composition(found, composed, scripts, sandbox, flags.seed) for found in compositions)
    total = len(units) + composed * len(compositions)
    for proof in itertools.chain(prove(units, scripts, sandbox), *samples):
        proofs.append(proof)
        for line in format_proof(proof):
            print(line, flush=True)
        if sys.stderr.isatty() or len(proofs) % 100 == 0:
            end = "\r" if sys.stderr.isatty() else "\n"
            print(f"{len(proofs)} of {total}", end=end, file=sys.stderr, flush=True)
    print(format_counts(units, proofs))
    return 1 if any(proof.problems for proof in proofs) else 0


def _sources(flags: argparse.Namespace) -> int:
    from overseer_training.data.build import read_source
    from overseer_training.data.sources import history, manual, tldr
    from overseer_training.data.sources.corpus import load_families
    from overseer_training.data.sources.kaggle import store as kaggle
    from overseer_training.data.sources.pairs import count_pairs
    from overseer_training.data.tools.packages import find_sources

    families = load_families()
    print(
        f"corpus: {len(families)} families, {sum(len(f.wordings) for f in families)} wordings, always used (Apache-2.0)"
    )
    cache = tldr.find_cache()
    found = (
        f"{count_pairs(read_source('tldr'))[0]} rows in {cache}, used with --sources tldr"
        if cache
        else "no client's cache here"
    )
    print(f"tldr: {found} (CC-BY-4.0)")
    histories = history.find_histories()
    if histories:
        shells = ", ".join(f"{len(history.read_commands(found))} commands of {found.shell}" for found in histories)
        print(f"history: {shells}; {count_pairs(read_source('history'))[0]} rows, used with --sources history (yours)")
    else:
        print("history: none of bash, zsh, fish or atuin in this home directory")
    pages = manual.find_pages()
    print(f"manual: {len(pages)} pages of installed programs" + (", used with --sources manual" if pages else ""))
    print(f"help: {_describe_help()}")
    for downloaded in kaggle.find_processed():
        print(f"kaggle: {downloaded}")
    managers = ", ".join(source.manager for source in find_sources())
    print(f"packages: those of {managers or 'no package manager'}; `overseer tools` recommends from them, no rows come from them")
    for file in flags.files:
        rows, unusable = count_pairs(read_source(file))
        print(f"{file}: {rows} rows, {unusable} unusable, used with --sources {file}")
    return 0


def _describe_help() -> str:
    """What there is of `--sources help`, or why there is nothing."""
    from overseer_training.data.sources.help_rows import kept_rows, read_rows
    from overseer_training.errors import SandboxError
    from overseer_training.evaluation.sandbox import find_sandbox

    if kept_rows().exists():
        rows = read_rows()
        programs = len({row.family for row in rows})
        return (
            f"{len(rows)} rows of {programs} installed programs, used with --sources help; they name program and option and are not how "
            "people ask; some are wrong, and what they are worth to a model was not measured"
        )
    try:
        find_sandbox()
    except SandboxError as error:
        return f"installed programs are only asked in a sandbox, and none works here: {error}"
    return "installed programs were not asked yet; do it with: overseer data programs"


def _programs(flags: argparse.Namespace) -> int:
    from overseer_training.data.sources.help_rows import kept_rows, write_rows
    from overseer_training.errors import DataError
    from overseer_training.evaluation.installed import harvest
    from overseer_training.evaluation.sandbox import find_sandbox

    def say(line: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)

    found = harvest(find_sandbox(), say)
    say("")
    print(found)
    if not found.rows:
        raise DataError("no installed program has an option that could be proved; rows from before are kept as they are")
    write_rows(found.rows)
    print(f"kept in {kept_rows()}, used with --sources help")
    return 0


def _overlap(flags: argparse.Namespace) -> int:
    from overseer_training.data.overlap import find_overlaps
    from overseer_training.data.row_file import read_rows
    from overseer_training.records import RunPaths

    if not flags.benchmark.exists():
        raise UsageError(f"there is no {flags.benchmark}; give a folder or file of the benchmark")
    rows = read_rows(RunPaths(flags.run_folder).data)["train"]
    count = 0
    for overlap in find_overlaps(rows, flags.benchmark):
        count += 1
        print(f"{overlap.kind:<8} {overlap.row}  {overlap.file}: {overlap.text[:100]!r}")
    print(f"{count} turns of {len(rows)} training rows overlap with {flags.benchmark}")
    return 1 if count else 0


def _make_repairs(flags: argparse.Namespace) -> int:
    from overseer_training.data.sources.corpus import load_families, load_fixture_scripts
    from overseer_training.evaluation.mistakes import make_repairs
    from overseer_training.evaluation.sandbox import find_sandbox
    from overseer_training.files import write_text

    repairs = make_repairs(load_families(), load_fixture_scripts(), find_sandbox(), flags.each)
    lines = [repair.as_line() for repair in repairs]
    write_text(flags.output, "".join(lines))
    print(f"{len(lines)} repairs written to {flags.output}")
    return 0
