"""What a run learns from: teachers, downloads and the corpus become the rows of its data folder.

Takes a plan; gives rows by split. The owner's access policy decides about every source, and the audit log records what was used.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import pathlib
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from overseer_training import custody
from overseer_training.config.plan import Plan
from overseer_training.errors import DataError
from overseer_training.models.catalog import cache_folder
from overseer_training.records import Example, Platform, RunPaths
from overseer_training.run_folder import existing_data
from overseer_training.teachers.keys import HIDDEN, ApiKey

if TYPE_CHECKING:
    from overseer_training.data.row_file import RowFile
    from overseer_training.learning.curate import Personal

WATCHED_SHARE = 0.1  # of personal rows, the newest, that validate a model which learns on; chosen


@dataclasses.dataclass
class Gathering:
    """The data stage of a run.

    Attributes:
        runs: the folder of all runs.
        api_key: of a teacher that needs one.
    """

    plan: Plan
    paths: RunPaths
    terminal: Any
    runs: pathlib.Path
    api_key: ApiKey | None = None
    _cache_key: str | None = dataclasses.field(default=None, init=False)
    _is_from_cache: bool = dataclasses.field(default=False, init=False)

    def gather(self) -> dict[str, RowFile]:
        """The rows of the run by split: made, or read where they were made before."""
        from overseer_training.data.row_file import copy_rows, read_rows

        has_rows = self.paths.data_manifest.exists()  # a resumed run
        taught = self._teach() if self.plan.teachers and not has_rows else []
        with self.terminal.stage("data") as stage:
            if has_rows:
                rows = read_rows(self.paths.data)
            elif self.plan.use_existing_data:
                rows = copy_rows(read_rows(existing_data(self.runs)), self.paths.data, admit=self._account)
            else:
                rows = self._from_cache() or self._make(taught)
            origin = ", kept from an earlier run" if self._is_from_cache else ""
            stage.result = ", ".join(f"{len(examples)} {split}" for split, examples in rows.items()) + origin
        return rows

    def keep_for_later_runs(self) -> None:
        """Keep the rows that this process made or took from the cache, with their tokens; only those of the corpus."""
        from overseer_training.data.cache import keep_rows

        if self._cache_key:
            keep_rows(cache_folder() / "rows", self._cache_key, self.paths.data)

    def _from_cache(self) -> dict[str, RowFile] | None:
        from overseer_training.data.cache import cache_key, fetch_rows
        from overseer_training.data.row_file import read_manifest

        self._cache_key = cache_key(self.plan)
        rows = fetch_rows(cache_folder() / "rows", self._cache_key, self.paths.data) if self._cache_key else None
        if rows is not None:
            self._is_from_cache = True
            self._account(read_manifest(self.paths.data)["training_rows_by_source"])
        return rows

    def _make(self, taught: Sequence[Example]) -> dict[str, RowFile]:
        from overseer_training.data.build import build_rows
        from overseer_training.data.row_file import copy_rows, read_quarantine

        custody.admit(self.plan.sources)
        own = self._personal_rows() if self.plan.continuous_learning else None
        sources, recordings = self._download() if self.plan.kaggle_datasets else ((), [])
        build = functools.partial(build_rows, self.plan, taught=taught, recordings=recordings, sources=sources)
        if own is None:
            return build(self.paths.data, admit=self._account)
        with tempfile.TemporaryDirectory(prefix=".rows-", dir=self.paths.root) as name:
            folder = pathlib.Path(name)
            rows = self._with_personal(build(folder), own)
            return copy_rows(rows, self.paths.data, read_quarantine(folder), self._account)

    def _with_personal(self, rows: Mapping[str, Sequence[Example]], own: Personal) -> dict[str, Iterable[Example]]:
        """Personal rows beside those of the corpus: all of these for a new model, a sample for one that knows them.

        A model that learns on is validated on the newest of the personal rows too: by the corpus alone, its first step would be its best.
        """
        from overseer_training.learning.curate import mix, replay

        plan, train = self.plan, list(own.train)
        splits: dict[str, Iterable[Example]] = {**rows, "personal": own.held_out}
        if not plan.start_from:
            splits["train"] = mix(train, rows["train"], plan.personal_share, plan.seed)
            return splits
        cut = len(train) - round(len(train) * WATCHED_SHARE)
        splits["train"] = replay(train[:cut], rows["train"], plan.replay_share, plan.seed)
        if train[cut:]:
            splits["validation"] = replay(train[cut:], rows["validation"], plan.replay_share, plan.seed)
        return splits

    def _personal_rows(self) -> Personal:
        """The owner's interactions as rows, with those for commands that they often type, for what helped, and about this machine."""
        from overseer_training.config.machine import find_machine
        from overseer_training.data.sealed import owners_keys
        from overseer_training.data.sources.corpus import load_families
        from overseer_training.learning.consent import read_consent
        from overseer_training.learning.curate import curate, habit_rows
        from overseer_training.learning.effects import find_improvements
        from overseer_training.learning.interaction import learning_folder
        from overseer_training.learning.machine import questions, write_held_back
        from overseer_training.learning.spool import collect
        from overseer_training.learning.store import Store
        from overseer_training.telemetry.background import default_folder
        from overseer_training.telemetry.stored import read_stored

        custody.admit(["interactions"])
        folder = learning_folder()
        with Store(folder, owners_keys().data_key("interactions")) as store:
            collect(store)
            interactions = store.list()
        platform: Platform = "macos" if find_machine().system == "macOS" else "linux"
        stored = read_stored(default_folder())
        if stored is not None:
            custody.admit(["telemetry"])
        improvements = find_improvements(interactions, stored) if stored is not None else []
        personal = curate(interactions, read_consent(folder), platform, improvements)
        train = (*habit_rows(interactions, load_families()), *personal.train)
        machine = questions(stored, len(train), self.plan.machine_share, self.plan.seed, platform)
        write_held_back(self.paths.data, machine.held_back)
        self.terminal.say(
            f"  {len(train)} rows from your interactions, {len(personal.held_out)} held back to measure with"
        )
        if machine.train:
            asked, held_back = len(machine.train), len(machine.held_back)
            self.terminal.say(f"  {asked} questions about this machine, {held_back} held back to measure with")
        return dataclasses.replace(personal, train=(*machine.train, *train))

    def _account(self, counts: Mapping[str, int]) -> None:
        """Let the policy decide about every source, of which there are so many training rows, and put on record what is used."""
        own = [name for name in counts if name not in ("corpus", "telemetry", "teacher")]
        custody.admit(own)
        for source, number in sorted(counts.items()):
            custody.record(
                "data-access", action="train", source=source[: custody.SHORT], rows=number, run=self.paths.root.name
            )

    def _download(self) -> tuple[Sequence[str], list[Any]]:
        """What Kaggle has: (names of sources with rows, series of real machines)."""
        from overseer_training.data.sources.kaggle import store
        from overseer_training.data.sources.kaggle.reviewed import read_datasets
        from overseer_training.telemetry.importers import read_csv

        got = store.fetch(read_datasets(self.plan.kaggle_datasets), functools.partial(self._say_of, "kaggle"))
        recordings = []
        for _, path in store.series_files():
            try:
                recordings += read_csv(path)
            except DataError as error:
                self.terminal.say(f"  kaggle: {error}; left out")
        return ("kaggle",) if any(found.converter == "pairs" for found in got) else (), recordings

    def _teach(self) -> list[Example]:
        """Rows that other models write, each proved here before it may teach."""
        from overseer_training.teaching import describe, teach_rows

        with self.terminal.stage("teachers") as stage:
            self.terminal.say(f"  asking {', '.join(self.plan.teachers)}")
            student = self._student() if self.plan.hybrid else None
            to = {
                "source": "corpus",
                "teacher": ", ".join(self.plan.teachers)[: custody.SHORT],
                "run": self.paths.root.name,
            }
            custody.record("teacher-traffic", action="begins", **to)  # also where it ends in an error
            rows, taught = teach_rows(self.plan, self.paths.taught, self.api_key, student, functools.partial(self._say_of, "teachers"))  # fmt: skip
            custody.record("teacher-traffic", requests=taught.counts()["asked"], **to)
            if taught.stopped:
                missed = f"{taught.assignments.not_reached} of {taught.assignments.assignments} assignments not reached"
                self.terminal.say(f"  stopped early, {missed}: {taught.stopped}")
            stage.result = describe(taught)
        return rows

    def _student(self) -> Callable[[Sequence[str]], list[str]] | None:
        """The newest trained model, as a voice among the teachers."""
        from overseer_training.models.generate import extract_command, generate
        from overseer_training.models.load import load_trained
        from overseer_training.prompts import with_system
        from overseer_training.records import Turn

        model = RunPaths(self.runs / "latest").model
        if not (model / "overseer.json").exists():
            self.terminal.say("  no trained model yet: the teachers vote among themselves")
            return None
        loaded = load_trained(model, self.plan.device)

        def answer(requests: Sequence[str]) -> list[str]:
            texts = generate(loaded, [with_system([Turn("user", request)]) for request in requests])
            return [extract_command(text) for text in texts]

        return answer

    def _say_of(self, name: str, text: str) -> None:
        self.terminal.say(f"  {name}: {text}")


def take_api_key(flags: argparse.Namespace) -> ApiKey | None:
    """The key of a teacher that needs one, out of the flags."""
    given, named = flags.llm_api_key, flags.teachers or ""
    if not given and "gemini" not in named:
        return None
    from overseer_training.teachers.keys import find_key

    key = find_key(given)
    if given:
        flags.llm_api_key = HIDDEN
    return key
