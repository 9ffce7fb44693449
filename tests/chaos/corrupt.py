"""Every way in which stored checkpoints can be spoilt, and what has to come of each.

    tally = campaign(storage, flips=220, seed=1)

Nothing but what was saved is ever loaded; what is spoilt is told in a sentence, and the newest
checkpoint that is whole is used.
"""

import dataclasses
import hashlib
import io
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from chaos.compare import state_differences

from trainyard_trainer.checkpoint import Checkpointer, Identity, Loaded
from trainyard_trainer.manifest import Best, Manifest, Part
from trainyard_trainer.node_memory import NodeMemory
from trainyard_trainer.storage import Storage
from trainyard_trainer.storage_errors import NoValidCheckpoint

OWN = Identity(namespace="research", job="nodules", uid="u-1", attempt=1, config_hash="c0ffee")
STEPS = (10, 20, 30, 40)
RANKS = 2
LATEST = "checkpoints/latest.json"


def directory(step: int, attempt: int = 1) -> str:
    """Of a checkpoint."""
    return f"checkpoints/step-{step:012d}-a{attempt}"


def state_at(step: int, owner: str = OWN.uid) -> dict[str, Any]:
    """What a run has at a step; another run has something else."""
    source = torch.Generator().manual_seed(step * 1000 + len(owner))
    weights = {name: torch.randn(40, generator=source) for name in ("a", "b", "c")}
    moments = {n: {"m": torch.randn(40, generator=source)} for n in range(3)}
    return {"model": weights, "optimizer": {"state": moments, "step": step}, "owner": owner}


def contents(step: int, owner: str) -> dict[str, Any]:
    """The parts, as two ranks write them: the optimizer's state is dealt out."""
    state = state_at(step, owner)
    shares: list[dict[str, Any]] = [{"optimizer": {"state": {}}} for _ in range(RANKS)]
    for number, moment in state["optimizer"]["state"].items():
        shares[number % RANKS]["optimizer"]["state"][number] = moment
    shares[0]["owner"] = owner
    shares[0]["optimizer"]["step"] = step
    parts = {
        f"part-{r}.pt": {"shared": s, "rank": {"rank": r, "step": step}}
        for r, s in enumerate(shares)
    }
    return {"model.pt": state["model"], **parts}


def write_checkpoint(
    storage: Storage, step: int, identity: Identity = OWN, owner: str | None = None
) -> Manifest:
    """By hand, as a reader has to find it. owner: whose state it holds; None: the identity's."""
    prefix, parts = directory(step, identity.attempt), []
    for name, content in contents(step, owner or identity.uid).items():
        buffer = io.BytesIO()
        torch.save(content, buffer)
        data, key = buffer.getvalue(), f"{prefix}/{name}"
        storage.write(key, data)
        rank = 1 if name == "part-1.pt" else 0
        digest = hashlib.sha256(data).hexdigest()
        parts.append(Part(key=key, size_bytes=len(data), sha256=digest, rank=rank))
    manifest = Manifest(
        **dataclasses.asdict(identity),
        step=step,
        epoch=step // 10,
        world_size=RANKS,
        created_at="2026-01-01T00:00:00Z",
        metrics={"val_loss": 1 / step},
        best=Best(metric="val_loss"),
        parts=tuple(parts),
    )
    storage.write(manifest.key, manifest.to_json())
    return manifest


def write_history(storage: Storage, identity: Identity = OWN) -> None:
    """Four checkpoints and the hint."""
    for step in STEPS:
        newest = write_checkpoint(storage, step, identity)
    hint = {"step": newest.step, "attempt": 1, "manifest": newest.key, "digest": newest.digest}
    storage.write(LATEST, json.dumps(hint, sort_keys=True).encode())


class Undo:
    """A storage that can be put back as it was when this was made."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.objects = {entry.key: storage.read(entry.key) for entry in storage.list()}
        self._touched: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def write(self, key: str, data: bytes, **options: Any) -> None:
        self._touched.add(key)
        self._storage.write(key, data, **options)

    def delete(self, keys: Iterable[str]) -> None:
        doomed = list(keys)
        self._touched.update(doomed)
        self._storage.delete(doomed)

    def undo(self) -> None:
        for key in self._touched:
            if key in self.objects:
                self._storage.write(key, self.objects[key])
            else:
                self._storage.delete([key])
        self._touched.clear()

    def of(self, step: int) -> list[str]:
        """Keys of a checkpoint."""
        return [key for key in self.objects if key.startswith(directory(step))]


@dataclass(frozen=True)
class Damage:
    """What was done, and which step has to be loaded then."""

    what: str
    expected: int
    is_told: bool = True
    """False: the damage is where nobody needs to look."""


def flip(store: Undo, dice: random.Random) -> Damage:
    """One bit of any object of the whole history."""
    key = dice.choice([key for key in store.objects if key != LATEST])
    data = bytearray(store.objects[key])
    at = dice.randrange(len(data))
    data[at] ^= 1 << dice.randrange(8)
    store.write(key, bytes(data))
    is_newest = key.startswith(directory(STEPS[-1]))
    is_told = is_newest or key.endswith("manifest.json")
    return Damage(f"byte {at} of {key}", STEPS[-2] if is_newest else STEPS[-1], is_told)


def spoil_newest(change: Callable[[bytes, random.Random], bytes]) -> Callable[..., Damage]:
    """One object of the newest checkpoint has other bytes."""

    def act(store: Undo, dice: random.Random) -> Damage:
        key = dice.choice(store.of(STEPS[-1]))
        store.write(key, change(store.objects[key], dice))
        return Damage(key, STEPS[-2])

    return act


def lose(store: Undo, dice: random.Random) -> Damage:
    """An object of the newest checkpoint is gone: a part, or the manifest."""
    key = dice.choice(store.of(STEPS[-1]))
    store.delete([key])
    return Damage(f"without {key}", STEPS[-2])


def swap(store: Undo, dice: random.Random) -> Damage:
    """Two parts of the newest have each other's names."""
    one, other = dice.sample([key for key in store.of(STEPS[-1]) if key.endswith(".pt")], 2)
    store.write(one, store.objects[other])
    store.write(other, store.objects[one])
    return Damage(f"{one} and {other} swapped", STEPS[-2])


def age(store: Undo, dice: random.Random) -> Damage:
    """An object of an older step under a newer name: a part, or the manifest."""
    key, step = dice.choice(store.of(STEPS[-1])), dice.choice(STEPS[:-1])
    older = key.replace(directory(STEPS[-1]), directory(step))
    store.write(key, store.objects[older])
    return Damage(f"{older} as {key}", STEPS[-2])


def replay(store: Undo, dice: random.Random) -> Damage:
    """All of an older checkpoint under the name of one that is newer than all."""
    step = dice.choice(STEPS)
    for key in store.of(step):
        store.write(key.replace(directory(step), directory(50)), store.objects[key])
    return Damage(f"step {step} as step 50", STEPS[-1])


def resurrect(store: Undo, dice: random.Random) -> Damage:
    """A manifest is back whose parts were deleted."""
    step, attempt = 50, 1
    lost = write_checkpoint(store, step)  # type: ignore[arg-type]
    doomed = dice.sample(lost.parts, dice.randint(1, len(lost.parts)))
    store.delete([part.key for part in doomed])
    return Damage(f"step {step} of attempt {attempt} without its parts", STEPS[-1])


def intrude(store: Undo, dice: random.Random) -> Damage:
    """A whole and newer checkpoint of another run, put here by mistake."""
    field = dice.choice(["namespace", "job", "uid"])
    stranger = dataclasses.replace(OWN, **{field: "another"})
    write_checkpoint(store, 50, stranger)  # type: ignore[arg-type]
    return Damage(f"a checkpoint of another {field}", STEPS[-1])


def adopt(store: Undo, dice: random.Random) -> Damage:
    """The manifest of another run over our own parts."""
    key = f"{directory(STEPS[-1])}/manifest.json"
    manifest = Manifest.from_json(store.objects[key])
    field = dice.choice(["namespace", "job", "uid"])
    store.write(key, manifest.model_copy(update={field: "another"}).to_json())
    return Damage(f"our manifest with another {field}", STEPS[-2])


def mislead(store: Undo, dice: random.Random) -> Damage:
    """latest.json names what is not there, or is no JSON at all."""
    hint = json.loads(store.objects[LATEST])
    absent = hint | {"step": 70, "manifest": f"{directory(70)}/manifest.json"}
    lies = [b"", b"{", b"[]", b"\0\xff", json.dumps(absent).encode(), b'{"manifest": 3}']
    store.write(LATEST, lie := dice.choice(lies))
    return Damage(f"latest.json {lie[:20]!r}", STEPS[-1])


KINDS: dict[str, Callable[[Undo, random.Random], Damage]] = {
    "truncated": spoil_newest(lambda data, dice: data[: dice.randrange(len(data))]),
    "empty": spoil_newest(lambda data, dice: b""),
    "bytes appended": spoil_newest(lambda data, dice: data + dice.randbytes(dice.randint(1, 99))),
    "zeros": spoil_newest(lambda data, dice: bytes(len(data))),
    "missing": lose,
    "swapped": swap,
    "of an older step": age,
    "old checkpoint replayed": replay,
    "manifest without parts": resurrect,
    "of another run": intrude,
    "manifest of another run": adopt,
    "latest.json lies": mislead,
}


def campaign(storage: Storage, *, flips: int, each: int, seed: int) -> Counter[str]:
    """Spoil and load, again and again; returns how often, by kind. AssertionError: a wrong load."""
    write_history(storage)
    dice, store, tally = random.Random(seed), Undo(storage), Counter[str]()
    kinds = [("byte flipped", flip)] * flips + [kind for kind in KINDS.items() for _ in range(each)]
    for kind, spoil in kinds:
        damage = spoil(store, dice)
        loaded, told = load(store)
        assert loaded is not None, f"{kind} ({damage.what}): a silent start from zero"
        require(loaded, damage.expected, f"{kind} ({damage.what})")
        assert bool(told) == damage.is_told, f"{kind} ({damage.what}): told {told!r}"
        assert told is None or told.endswith(f" Set aside; resuming from step {damage.expected}.")
        if spoil is not flip:
            again, quiet = load(store)
            assert again is not None and quiet is None, f"{kind}: told twice, {quiet}"
            require(again, damage.expected, f"{kind} ({damage.what}), at the second load")
        store.undo()
        tally[kind] += 1
    return tally


def load(store: Any, memory: NodeMemory | None = None) -> tuple[Loaded | None, str | None]:
    """As the next attempt does."""
    checkpointer = Checkpointer(store, dataclasses.replace(OWN, attempt=2), memory=memory)
    return checkpointer.load_latest(), checkpointer.warning


def require(loaded: Loaded, step: int, what: str) -> None:
    """Bit for bit what was saved at that step."""
    assert loaded.manifest.step == step, f"{what}: step {loaded.manifest.step}, not {step}"
    wrong = state_differences(loaded.state, state_at(step), "state")
    wrong += state_differences(loaded.rank_state, {"rank": 0, "step": step}, "rank")
    assert not wrong, f"{what}: a WRONG LOAD of {wrong}"


def massacre(storage: Storage, *, times: int, seed: int) -> int:
    """Spoil something in every checkpoint; returns how often that was refused, each time anew."""
    write_history(storage)
    dice, store, refused = random.Random(seed), Undo(storage), 0
    for _ in range(times):
        done = [spoil_one(store, step, dice) for step in STEPS]
        for _ in range(2):
            try:
                loaded, _ = load(store)
            except NoValidCheckpoint as error:
                assert f"holds {len(STEPS)} checkpoint(s) and none can be used" in str(error)
            else:
                raise AssertionError(
                    f"{done}: {'loaded' if loaded else 'a silent start from zero'}"
                )
        refused += 1
        store.undo()
    return refused


def spoil_one(store: Undo, step: int, dice: random.Random) -> str:
    """A flipped bit or an early end in one object of a checkpoint; returns where."""
    key = dice.choice(store.of(step))
    data = bytearray(store.objects[key])
    at = dice.randrange(len(data))
    data[at] ^= 1 << dice.randrange(8)
    store.write(key, bytes(data) if dice.random() < 0.7 else bytes(data[:at]))
    return f"{key} at {at}"


def memory_campaign(storage: Storage, memory: NodeMemory, *, flips: int, seed: int) -> Counter[str]:
    """The same with copies in the node's memory, of the newest step and of one that is newer still.

    Returns how often what was spoilt in memory was made good from storage, and how often an older
    step had to do.
    """
    write_history(storage)
    dice, store, tally = random.Random(seed), Undo(storage), Counter[str]()
    for number in range(flips):
        step = dice.choice([STEPS[-1], 50])
        memory.clear()
        write_checkpoint(memory.storage, step)
        there = Undo(memory.storage)
        what = spoil_one(there, step, dice)
        if is_both := step == STEPS[-1] and number % 4 == 0:
            what += f" and {spoil_one(store, step, dice)} in storage"
        loaded, told = load(store, memory)
        assert loaded is not None, f"{what}: a silent start from zero"
        allowed = STEPS[-2:] if is_both else STEPS[-1:]
        assert loaded.manifest.step in allowed, f"{what}: step {loaded.manifest.step}"
        require(loaded, loaded.manifest.step, what)
        assert told, f"{what}: told nobody"
        tally[f"{step} spoilt{' in both' if is_both else ''}, {loaded.manifest.step} loaded"] += 1
        store.undo()
    return tally
