"""The checkpoints of a run: list them, pick one, fetch it."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainyard.errors import CheckpointMissing
from trainyard.locate import StoredRun
from trainyard.quantities import age_text, number_text, size_text
from trainyard_operator.contract import CHECKPOINTS_PREFIX

if TYPE_CHECKING:
    from trainyard_trainer.manifest import Best, Listing, Manifest

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Catalogue:
    """What is there."""

    run: StoredRun
    listing: "Listing"

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

    def pick(self, which: str) -> "Manifest":
        """`best`, `latest` or a step. Raises CheckpointMissing."""
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


def read_catalogue(run: StoredRun) -> Catalogue:
    """Read every manifest of the run."""
    from trainyard_trainer.manifest import list_manifests

    return Catalogue(run, list_manifests(run.storage))


def check_sizes(catalogue: Catalogue) -> dict[str, str]:
    """What is wrong with each checkpoint as far as a listing shows, by prefix; empty: nothing."""
    sizes = {e.key: e.size_bytes for e in catalogue.run.storage.list(f"{CHECKPOINTS_PREFIX}/")}
    problems = {}
    for manifest in catalogue.listing.valid:
        wrong = [part.name for part in manifest.parts if sizes.get(part.key) != part.size_bytes]
        problems[manifest.prefix] = f"no: {', '.join(wrong)} missing or cut off" if wrong else ""
    return problems


def check_bytes(catalogue: Catalogue) -> dict[str, str]:
    """As check_sizes, from every byte of every checkpoint."""
    from trainyard_trainer.manifest import verify
    from trainyard_trainer.storage_errors import CheckpointCorrupt

    problems = {}
    for manifest in catalogue.listing.valid:
        try:
            verify(catalogue.run.storage, manifest)
            problems[manifest.prefix] = ""
        except CheckpointCorrupt as error:
            problems[manifest.prefix] = f"no: {error.part} {error.problem}"
    return problems


def table(
    catalogue: Catalogue, verified: dict[str, str], now: datetime
) -> tuple[list[str], list[list[str]]]:
    """Header and rows."""
    metric = catalogue.rule.metric if catalogue.rule else None
    header = ["STEP", "EPOCH", *([metric.upper()] if metric else []), "SIZE", "AGE", "ATTEMPT"]
    rows = []
    for manifest in catalogue.listing.valid:
        value = manifest.metrics.get(metric) if metric else None
        rows.append(
            [
                str(manifest.step),
                str(manifest.epoch),
                *([number_text(value) if value is not None else ""] if metric else []),
                size_text(manifest.size_bytes),
                age_text(manifest.created_at, now),
                str(manifest.attempt),
                ", ".join(catalogue.kept_as(manifest)),
                verified[manifest.prefix],
            ]
        )
    return [*header, "KEPT AS", "VERIFIED"], rows


def to_dict(catalogue: Catalogue, manifest: "Manifest", verified: str) -> dict[str, Any]:
    """For programs."""
    return {
        "step": manifest.step,
        "epoch": manifest.epoch,
        "attempt": manifest.attempt,
        "uri": catalogue.run.storage.uri_of(manifest.prefix),
        "bytes": manifest.size_bytes,
        "time": manifest.created_at,
        "metrics": manifest.metrics,
        "keptAs": catalogue.kept_as(manifest),
        "verified": verified,
    }


def fetch(
    catalogue: Catalogue,
    which: str,
    directory: Path,
    *,
    everything: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Download the weights (or all parts) into `directory`/step-<n>, verified; returns that folder.
    model.json beside them says what they are for.

    Goes on where an interrupted download left off. Raises CheckpointMissing.
    """
    from trainyard_trainer.card import CARD_FILE
    from trainyard_trainer.manifest import download
    from trainyard_trainer.storage_errors import CheckpointCorrupt

    manifest = catalogue.pick(which)
    weights = manifest.weights
    parts = [weights] if weights and not everything else None
    target = directory / f"step-{manifest.step}"
    try:
        download(catalogue.run.storage, manifest, target, progress, parts)
    except CheckpointCorrupt as error:
        others = [m.step for m in catalogue.listing.valid if m != manifest]
        help_text = f"trainyard fetch {catalogue.run.name} {others[0]}" if others else None
        raise CheckpointMissing(str(error).rstrip("."), help_text) from error
    if catalogue.run.storage.exists(CARD_FILE):
        (target / CARD_FILE).write_bytes(catalogue.run.storage.read(CARD_FILE))
    return target
