"""The checkpoints of a run: list them, pick one, fetch it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainyard.errors import CheckpointMissing
from trainyard.locate import StoredRun
from trainyard.quantities import age_text, number_text, size_text
from trainyard_operator.layout import CHECKPOINTS_PREFIX

if TYPE_CHECKING:
    from trainyard_trainer.manifest import Best, Listing, Manifest

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Row:
    """One checkpoint as it is listed."""

    name: str
    """`fetch` takes it."""
    cells: list[str]
    document: dict[str, Any]
    """For programs."""
    problem: str
    """Why it cannot be used; empty where it can."""


@dataclass(frozen=True)
class Catalogue:
    """What is there."""

    run: StoredRun
    listing: "Listing"

    @property
    def entries(self) -> "Sequence[Manifest]":
        """The usable ones, newest first."""
        return self.listing.valid

    @property
    def reasons(self) -> list[str]:
        """Why others cannot be used."""
        return [rejected.reason for rejected in self.listing.rejected]

    @property
    def rule(self) -> "Best | None":
        """What counts as best."""
        from trainyard_trainer.manifest import best_rule

        return best_rule(self.listing.valid)

    @property
    def latest(self) -> "Manifest | None":
        """The newest."""
        return next(iter(self.listing.valid), None)

    @property
    def best(self) -> "Manifest | None":
        """The best by the run's own rule."""
        from trainyard_trainer.manifest import best_of

        return best_of(self.listing.valid)

    def name_of(self, manifest: "Manifest") -> str:
        """Its step."""
        return str(manifest.step)

    def pick(self, which: str | None) -> "Manifest":
        """`best`, `latest` or a step; None: the best. Raises CheckpointMissing."""
        which = which or "best"
        found = self._find(which)
        if found is None:
            steps = ", ".join(str(manifest.step) for manifest in self.listing.valid[:10])
            has = f"it has {steps}" if steps else "it has none yet"
            raise CheckpointMissing(
                f"'{self.run.name}' has no checkpoint '{which}'; {has}",
                f"trainyard checkpoints {self.run.name}",
            )
        return found

    def _find(self, which: str) -> "Manifest | None":
        if which == "latest":
            return self.latest
        if which == "best":
            return self.best
        return next((m for m in self.listing.valid if str(m.step) == which), None)

    def kept_as(self, manifest: "Manifest") -> list[str]:
        """Why it is kept."""
        names = {"best": self.best, "latest": self.latest}
        return [name for name, chosen in names.items() if chosen == manifest]

    def check(self, *, every_byte: bool) -> dict[str, str]:
        """What is wrong with each, by prefix, empty: nothing; sizes alone, or every byte."""
        if every_byte:
            return {manifest.prefix: self._check_bytes(manifest) for manifest in self.entries}
        sizes = {e.key: e.size_bytes for e in self.run.storage.list(f"{CHECKPOINTS_PREFIX}/")}
        problems = {}
        for manifest in self.entries:
            wrong = [part.name for part in manifest.parts if sizes.get(part.key) != part.size_bytes]
            problems[manifest.prefix] = (
                f"no: {', '.join(wrong)} missing or cut off" if wrong else ""
            )
        return problems

    def _check_bytes(self, manifest: "Manifest") -> str:
        from trainyard_trainer.manifest import verify
        from trainyard_trainer.storage_errors import CheckpointCorrupt

        try:
            verify(self.run.storage, manifest)
        except CheckpointCorrupt as error:
            return f"no: {error.part} {error.problem}"
        return ""

    @property
    def header(self) -> list[str]:
        """Of the columns of `rows`."""
        metric = [self.rule.metric.upper()] if self.rule else []
        return ["STEP", "EPOCH", *metric, "SIZE", "AGE", "ATTEMPT", "KEPT AS", "VERIFIED"]

    def rows(self, now: datetime, *, every_byte: bool) -> list[Row]:
        """All checkpoints, newest first."""
        problems, sound = self.check(every_byte=every_byte), "yes" if every_byte else "sizes"
        return [
            self._row(manifest, problems[manifest.prefix], sound, now) for manifest in self.entries
        ]

    def _row(self, manifest: "Manifest", problem: str, sound: str, now: datetime) -> Row:
        value = manifest.metrics.get(self.rule.metric) if self.rule else None
        metric = [number_text(value) if value is not None else ""] if self.rule else []
        verified = problem or sound
        cells = [
            str(manifest.step),
            str(manifest.epoch),
            *metric,
            size_text(manifest.size_bytes),
            age_text(manifest.created_at, now),
            str(manifest.attempt),
            ", ".join(self.kept_as(manifest)),
            verified,
        ]
        return Row(str(manifest.step), cells, self._to_dict(manifest, verified), problem)

    def _to_dict(self, manifest: "Manifest", verified: str) -> dict[str, Any]:
        return {
            "step": manifest.step,
            "epoch": manifest.epoch,
            "attempt": manifest.attempt,
            "uri": self.run.storage.uri_of(manifest.prefix),
            "bytes": manifest.size_bytes,
            "time": manifest.created_at,
            "metrics": manifest.metrics,
            "keptAs": self.kept_as(manifest),
            "verified": verified,
        }

    def fetch(
        self,
        which: str | None,
        directory: Path,
        *,
        everything: bool = False,
        progress: Progress | None = None,
    ) -> Path:
        """Download the weights (or all parts) into `directory`/step-<n>, verified; returns that.
        model.json beside them says what they are for.

        Goes on where an interrupted download left off. Raises CheckpointMissing.
        """
        from trainyard_trainer.card import CARD_FILE
        from trainyard_trainer.manifest import download
        from trainyard_trainer.storage_errors import CheckpointCorrupt

        manifest = self.pick(which)
        weights = manifest.weights
        parts = [weights] if weights and not everything else None
        target = directory / f"step-{manifest.step}"
        try:
            download(self.run.storage, manifest, target, progress, parts)
        except CheckpointCorrupt as error:
            others = [m.step for m in self.entries if m != manifest]
            help_text = f"trainyard fetch {self.run.name} {others[0]}" if others else None
            raise CheckpointMissing(str(error).rstrip("."), help_text) from error
        if self.run.storage.exists(CARD_FILE):
            (target / CARD_FILE).write_bytes(self.run.storage.read(CARD_FILE))
        return target


def read_catalogue(run: StoredRun) -> Catalogue:
    """Read every manifest of the run."""
    from trainyard_trainer.manifest import list_manifests

    return Catalogue(run, list_manifests(run.storage))
