"""What a run learns from: teachers, downloads and the corpus become the rows of its data folder.

Takes a plan; gives rows by split. The owner's access policy decides about every source, and the audit log records what was used.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from overseer_training import custody
from overseer_training.config.plan import Plan
from overseer_training.data.clean import Rows
from overseer_training.errors import DataError
from overseer_training.records import Example, Platform, RunPaths
from overseer_training.run_folder import existing_data
from overseer_training.teachers.keys import HIDDEN, ApiKey

if TYPE_CHECKING:
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

    def gather(self) -> dict[str, list[Example]]:
        """The rows of the run by split: made, or read where they were made before."""
        from overseer_training.data.build import build_rows, read_rows, write_rows

        taught = self._teach() if self.plan.teachers and not self.paths.data_manifest.exists() else []
        with self.terminal.stage("data") as stage:
            if self.paths.data_manifest.exists():  # a resumed run
                splits = read_rows(self.paths.data)
            elif self.plan.use_existing_data:
                splits = read_rows(existing_data(self.runs))
                rows = Rows(splits, [])
                self._account(rows)
                write_rows(rows, self.paths.data)
            else:
                custody.admit(self.plan.sources)
                own = self._personal_rows() if self.plan.continuous_learning else None
                sources, recordings = self._download() if self.plan.kaggle_datasets else ((), [])
                rows = build_rows(self.plan, taught=taught, recordings=recordings, sources=sources)
                if own is not None:
                    self._add_personal(rows.splits, own)
                self._account(rows)
                write_rows(rows, self.paths.data)
                splits = rows.splits
            stage.result = ", ".join(f"{len(examples)} {split}" for split, examples in splits.items())
        return dict(splits)  # type: ignore[arg-type]

    def _add_personal(self, splits: dict[Any, list[Example]], own: Personal) -> None:
        """Personal rows beside those of the corpus: all of these for a new model, a sample for one that knows them.

        A model that learns on is validated on the newest of the personal rows too: by the corpus alone, its first step would be its best.
        """
        from overseer_training.learning.curate import mix, replay

        plan, train = self.plan, list(own.train)
        splits["personal"] = list(own.held_out)
        if not plan.start_from:
            splits["train"] = mix(train, splits["train"], plan.personal_share, plan.seed)
            return
        cut = len(train) - round(len(train) * WATCHED_SHARE)
        splits["train"] = replay(train[:cut], splits["train"], plan.replay_share, plan.seed)
        if train[cut:]:
            splits["validation"] = replay(train[cut:], splits["validation"], plan.replay_share, plan.seed)

    def _personal_rows(self) -> Personal:
        """The owner's interactions as rows, with those for commands that they often type among them."""
        from overseer_training.config.machine import find_machine
        from overseer_training.data.sealed import owners_keys
        from overseer_training.data.sources.corpus import load_families
        from overseer_training.learning.consent import read_consent
        from overseer_training.learning.curate import curate, habit_rows
        from overseer_training.learning.interaction import learning_folder
        from overseer_training.learning.spool import collect
        from overseer_training.learning.store import Store

        custody.admit(["interactions"])
        folder = learning_folder()
        with Store(folder, owners_keys().data_key("interactions")) as store:
            collect(store)
            interactions = store.list()
        platform: Platform = "macos" if find_machine().system == "macOS" else "linux"
        personal = curate(interactions, read_consent(folder), platform)
        often = habit_rows(interactions, load_families())
        personal = dataclasses.replace(personal, train=(*often, *personal.train))
        self.terminal.say(
            f"  {len(personal.train)} rows from your interactions, {len(personal.held_out)} held back to measure with"
        )
        return personal

    def _account(self, rows: Rows) -> None:
        """Let the policy decide about every source, and put on record what is used."""
        counts = collections.Counter(example.source for example in rows.splits["train"])
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
                self.terminal.say(f"  stopped early: {taught.stopped}")
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
    """The key of a teacher that needs one, out of the flags and out of what other users see of this process."""
    given, named = flags.llm_api_key, flags.teachers or ""
    if not given and "gemini" not in named:
        return None
    from overseer_training.teachers.keys import find_key, hide_from_process_title

    key = find_key(given)
    hide_from_process_title(key)
    if given:
        flags.llm_api_key = HIDDEN
    return key
