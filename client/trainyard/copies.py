"""The stored copies of a program's checkpoint directory: list them, pick one, fetch it."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from trainyard.checkpoints import Catalogue, Progress, Row, read_catalogue
from trainyard.errors import CheckpointMissing
from trainyard.locate import StoredRun
from trainyard.quantities import age_text, number_text, size_text
from trainyard_operator.layout import DIRECTORY_PREFIX, RUN_FILE
from trainyard_trainer.directory_fetch import CopyCorrupt, download_copy, verify_copy
from trainyard_trainer.directory_manifest import (
    Copies,
    DirectoryManifest,
    best_copy,
    list_copies,
    list_set_aside,
)
from trainyard_trainer.manifest import Best
from trainyard_trainer.storage_errors import ObjectMissing

_NAME = re.compile(r"a(\d+)/(\d+)")
_NAMED = 10
"""So many copies a message lists."""


@dataclass(frozen=True)
class CopyCatalogue:
    """What is there of a program's directory."""

    run: StoredRun
    copies: Copies
    aside: Sequence[tuple[str, DirectoryManifest | None]]
    """What restarts set aside, as `list_set_aside` has it."""
    rule: Best | None
    """keepBest of the job."""

    @property
    def entries(self) -> Sequence[DirectoryManifest]:
        """The usable ones, newest first."""
        return self.copies.valid

    @property
    def reasons(self) -> list[str]:
        """Why others cannot be used."""
        spoilt = [f"'{key}' differs from its own digest" for key, one in self.aside if one is None]
        return [*(rejected.reason for rejected in self.copies.rejected), *spoilt]

    @property
    def latest(self) -> DirectoryManifest | None:
        """The newest."""
        return next(iter(self.entries), None)

    @property
    def best(self) -> DirectoryManifest | None:
        """The best by keepBest."""
        return best_copy(self.entries, self.rule) if self.rule else None

    def name_of(self, manifest: DirectoryManifest) -> str:
        """`a2/3`: the third copy of attempt 2."""
        return f"a{manifest.attempt}/{manifest.sequence}"

    def pick(self, which: str | None) -> DirectoryManifest:
        """`best`, `latest`, a step or a copy's name; None: the best, else the latest.

        Of several copies of a step, the newest. Raises CheckpointMissing.
        """
        found = self._find(which)
        if found is None:
            raise CheckpointMissing(self._missing(which), f"trainyard checkpoints {self.run.name}")
        return found

    def _find(self, which: str | None) -> DirectoryManifest | None:
        if which is None:
            return self.best or self.latest
        if which in ("best", "latest"):
            return self.best if which == "best" else self.latest
        if match := _NAME.fullmatch(which):
            wanted = int(match[1]), int(match[2])
            return next((m for m in self.entries if (m.attempt, m.sequence) == wanted), None)
        return next((m for m in self.entries if str(m.step) == which), None)

    def _missing(self, which: str | None) -> str:
        names = ", ".join(self._with_step(one) for one in self.entries[:_NAMED])
        has = f"it has {names}" if names else "it has none yet"
        if which == "best" and self.rule is None:
            why = "sets no checkpoint.keepBest, so that no copy is best"
        elif which == "best" and self.rule:
            why = f"has no copy with the metric '{self.rule.metric}'"
        else:
            why = f"has no copy '{which or 'latest'}' of its checkpoint directory"
        return f"'{self.run.name}' {why}; {has}"

    def _with_step(self, manifest: DirectoryManifest) -> str:
        step = "" if manifest.step is None else f" (step {manifest.step})"
        return f"{self.name_of(manifest)}{step}"

    def kept_as(self, manifest: DirectoryManifest) -> list[str]:
        """Why it is kept."""
        names = {"best": self.best, "latest": self.latest}
        return [name for name, chosen in names.items() if chosen is manifest]

    def check(self, *, every_byte: bool) -> dict[str, str]:
        """What is wrong with each, by prefix, empty: nothing; sizes alone, or every byte."""
        if every_byte:
            return {manifest.prefix: self._check_bytes(manifest) for manifest in self.entries}
        storage = self.run.storage
        sizes = {e.key: e.size_bytes for e in storage.list(f"{DIRECTORY_PREFIX}/")}
        problems = {}
        for manifest in self.entries:
            wrong = [f.path for f in manifest.files if sizes.get(f.key) != f.size_bytes]
            problems[manifest.prefix] = (
                f"no: {', '.join(wrong)} missing or cut off" if wrong else ""
            )
        return problems

    def _check_bytes(self, manifest: DirectoryManifest) -> str:
        try:
            verify_copy(self.run.storage, manifest)
        except CopyCorrupt as error:
            return f"no: {error.path} {error.problem}"
        return ""

    @property
    def header(self) -> list[str]:
        """Of the columns of `rows`."""
        return ["COPY", "STEP", "EPOCH", "METRICS", "FILES", "SIZE", "AGE", "KEPT AS", "VERIFIED"]

    def rows(self, now: datetime, *, every_byte: bool) -> list[Row]:
        """All copies; at the end those that were set aside."""
        problems, sound = self.check(every_byte=every_byte), "yes" if every_byte else "sizes"
        usable = [
            self._row(manifest, self.kept_as(manifest), problems[manifest.prefix], sound, now)
            for manifest in self.entries
        ]
        aside = [one for _, one in self.aside if one is not None]
        return usable + [self._row(one, ["set aside"], "", "no", now) for one in aside]

    def _row(
        self,
        manifest: DirectoryManifest,
        kept_as: list[str],
        problem: str,
        sound: str,
        now: datetime,
    ) -> Row:
        verified = problem or sound
        values = [f"{name}={number_text(value)}" for name, value in manifest.metrics.items()]
        cells = [
            self.name_of(manifest),
            "" if manifest.step is None else str(manifest.step),
            "" if manifest.epoch is None else str(manifest.epoch),
            " ".join(values),
            str(len(manifest.files)),
            size_text(manifest.size_bytes),
            age_text(manifest.created_at, now),
            ", ".join(kept_as),
            verified,
        ]
        document = self._to_dict(manifest) | {"keptAs": kept_as, "verified": verified}
        return Row(self.name_of(manifest), cells, document, problem)

    def _to_dict(self, manifest: DirectoryManifest) -> dict[str, Any]:
        return {
            "copy": self.name_of(manifest),
            "step": manifest.step,
            "epoch": manifest.epoch,
            "attempt": manifest.attempt,
            "sequence": manifest.sequence,
            "uri": self.run.storage.uri_of(manifest.prefix),
            "files": len(manifest.files),
            "bytes": manifest.size_bytes,
            "time": manifest.created_at,
            "metrics": manifest.metrics,
        }

    def fetch(
        self,
        which: str | None,
        directory: Path,
        *,
        everything: bool = True,
        progress: Progress | None = None,
    ) -> Path:
        """Download a copy, verified, into `directory`/copy-a<attempt>-<n>; returns that.

        everything: says nothing here, a copy is always whole. Raises CheckpointMissing.
        """
        manifest = self.pick(which)
        target = directory / f"copy-a{manifest.attempt}-{manifest.sequence}"
        try:
            download_copy(self.run.storage, manifest, target, progress)
        except CopyCorrupt as error:
            raise self._explain(manifest, error) from error
        return target

    def _explain(self, manifest: DirectoryManifest, error: CopyCorrupt) -> CheckpointMissing:
        name = self.run.name
        if not self.run.storage.exists(manifest.key):
            text = f"'{name}' deleted {manifest.name} meanwhile, since it has newer ones"
            return CheckpointMissing(text, f"trainyard fetch {name} latest")
        spoilt = {file.key for file in manifest.files if file.path == error.path}
        for other in self.entries:
            if spoilt.isdisjoint(file.key for file in other.files):
                help_text = f"trainyard fetch {name} {self.name_of(other)}"
                return CheckpointMissing(str(error).rstrip("."), help_text)
        return CheckpointMissing(
            f"{str(error).rstrip('.')}; no other copy has another '{error.path}'"
        )


def is_copy_name(which: str | None) -> bool:
    """Whether that names a copy of a directory, such as `a2/3`."""
    return which is not None and _NAME.fullmatch(which) is not None


def read_copies(run: StoredRun) -> CopyCatalogue:
    """Read every manifest of the run's directory."""
    storage = run.storage
    return CopyCatalogue(run, list_copies(storage), list_set_aside(storage), _keep_best(run))


def read_stored(run: StoredRun, *, directory: bool = False) -> Catalogue | CopyCatalogue:
    """The run's checkpoints; where it has none, or where asked for, those of its directory."""
    if not directory:
        catalogue = read_catalogue(run)
        if catalogue.listing.valid or catalogue.listing.rejected:
            return catalogue
    copies = read_copies(run)
    return copies if directory or copies.entries or copies.reasons or copies.aside else catalogue


def _keep_best(run: StoredRun) -> Best | None:
    """As the job has it now; once that is gone, as its first attempt had it."""
    return Best.from_spec((run.job.spec if run.job else _request(run)).get("checkpoint") or {})


def _request(run: StoredRun) -> dict[str, Any]:
    try:
        record = json.loads(run.storage.read(RUN_FILE))
    except ObjectMissing:
        return {}
    request: dict[str, Any] = record.get("request") or {}
    return request
