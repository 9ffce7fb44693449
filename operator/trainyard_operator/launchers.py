"""The launchers of recipe pods: which of them stand by, and the orders they are given.

A long-poll is kept open to every pod that takes orders, not only to each gang's first: ranks whose
peer has died may hang instead of failing, and then only the peer's own launcher tells of it.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import aiohttp

from trainyard_operator.contract import (
    ORDER_PATH,
    PROGRESS_PORT,
    STANDBY_PATH,
    STANDBY_WAIT_SECONDS,
    Standby,
    bearer,
)
from trainyard_operator.decision import OrderAttempt
from trainyard_operator.errors import LauncherError
from trainyard_operator.metrics import ORDERS
from trainyard_operator.observed import PodRecord, SeenStandby, standing_by
from trainyard_operator.podhttp import UNREACHED, read_body, url_of
from trainyard_operator.reflector import Key, Reflector

ANSWER_SECONDS = 5.0
"""How much longer than a question may be kept its answer may take."""
ORDER_SECONDS = 2.0
LOOK_SECONDS = 0.5
"""Between two looks at which pods there are, and two questions to one that stands by."""
LONGEST_PAUSE_SECONDS = 10.0
"""Between two questions to a pod that does not answer."""
MOST_POLLS = 4000
"""Pods that are listened to at the same time; the failure of another is seen when it ends."""


@dataclass
class Launchers:
    """What launchers said, by the uid of their pod. All of it can be lost."""

    reflector: Reflector
    on_change: Callable[[Key], None]
    port: int = PROGRESS_PORT
    standing: dict[str, SeenStandby] = field(default_factory=dict)
    taken: dict[str, int] = field(default_factory=dict)
    """The newest attempt that each agreed to begin."""
    beat: Callable[[], None] = lambda: None
    """Called at each turn."""
    _polls: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _session: aiohttp.ClientSession | None = None

    def seen(self, pod: PodRecord) -> PodRecord:
        """The pod with what its launcher said."""
        standby, taken = self.standing.get(pod.uid), self.taken.get(pod.uid, 0)
        return replace(pod, standby=standby, taken=taken) if standby or taken else pod

    async def run(self) -> None:
        """Listen for ever."""
        try:
            while True:
                self.beat()
                self.listen()
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            await self.close()

    def listen(self) -> None:
        """Begin to listen to pods that are new, and forget those that are gone."""
        found = {pod.uid: (gang[:2], pod) for gang, pods in self.reflector.pods.items()
                 for pod in pods.values() if _can_be_asked(pod)}  # fmt: skip
        for uid in self._polls.keys() - found.keys():
            self._polls.pop(uid).cancel()
        known = {pod.uid for pods in self.reflector.pods.values() for pod in pods.values()}
        for said in (self.standing, self.taken):
            for uid in said.keys() - known:
                del said[uid]
        new = [entry for uid, entry in found.items() if uid not in self._polls]
        new.sort(key=lambda entry: entry[1].node_index)
        for key, pod in new[: MOST_POLLS - len(self._polls)]:
            self._polls[pod.uid] = asyncio.create_task(self._follow(key, pod))

    async def order(self, action: OrderAttempt) -> None:
        """Have an attempt begun in place. Raises LauncherError unless the launcher agrees."""
        url = url_of(action.address, self.port, ORDER_PATH)
        try:
            async with (
                asyncio.timeout(ORDER_SECONDS),
                self._http().post(
                    url, data=action.order.to_json(), allow_redirects=False
                ) as response,
            ):
                status = response.status
        except UNREACHED as error:
            ORDERS.labels(outcome="none").inc()
            raise LauncherError(f"pod {action.name} did not hear an order: {error!r}") from error
        ORDERS.labels(outcome="taken" if status == 202 else "refused").inc()
        if status != 202:
            raise LauncherError(f"pod {action.name} refused an order with status {status}")
        self.taken[action.uid] = max(action.order.attempt, self.taken.get(action.uid, 0))
        self.standing.pop(action.uid, None)

    async def close(self) -> None:
        """Listen no more."""
        for poll in self._polls.values():
            poll.cancel()
        await asyncio.gather(*self._polls.values(), return_exceptions=True)
        if self._session:
            await self._session.close()

    async def _follow(self, key: Key, pod: PodRecord) -> None:
        """Ask one launcher, again and again."""
        clock, failures = asyncio.get_running_loop().time, 0
        while True:
            asked = clock()
            try:
                heard = await self._ask(pod)
            except UNREACHED:
                failures += 1
                pause = min(LOOK_SECONDS * 2.0 ** min(failures - 1, 16), LONGEST_PAUSE_SECONDS)
            else:
                failures = 0
                self._note(key, pod.uid, heard)
                # One that does not wait for news must not be asked all the time.
                pause = 0 if clock() - asked > STANDBY_WAIT_SECONDS / 2 else LOOK_SECONDS
            await asyncio.sleep(pause)

    async def _ask(self, pod: PodRecord) -> SeenStandby | None:
        """Raises ValueError where the answer is none."""
        url = url_of(pod.ip or "", self.port, f"{STANDBY_PATH}?wait={STANDBY_WAIT_SECONDS}")
        async with (
            asyncio.timeout(STANDBY_WAIT_SECONDS + ANSWER_SECONDS),
            self._http().get(
                url, headers=bearer(pod.order_token), allow_redirects=False
            ) as response,
        ):
            if response.status == 204:
                return None
            heard = standing_by(Standby.from_json(await read_body(response)), datetime.now(UTC))
            if response.status != 200 or heard is None:
                raise ValueError(f"status {response.status}")
            return heard

    def _note(self, key: Key, uid: str, heard: SeenStandby | None) -> None:
        known = self.standing.get(uid)
        if heard is None:
            self.standing.pop(uid, None)
        elif known is None or known.attempt != heard.attempt:
            self.standing[uid] = heard
            self.on_change(key)

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=ORDER_SECONDS),
            )
        return self._session


def _can_be_asked(pod: PodRecord) -> bool:
    return bool(pod.running and pod.ip and pod.order_token and not pod.is_deleting)
