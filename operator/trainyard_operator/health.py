"""/healthz, /readyz and /metrics: they fail when a loop is stuck, not only when the process is."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

SILENT_WATCH_SECONDS = 240.0
"""A watch hears a bookmark each minute or is taken up again, so this one hangs. An API server
that is away is no reason to start the operator again: its watch keeps trying."""
LATE_WATCH_SECONDS = 240.0
"""What a list or an answer to our own write shows, the watch should have told seconds later."""
STUCK_QUEUE_SECONDS = 300.0
STUCK_LOOP_SECONDS = 60.0
"""Of a loop that turns at least each other second."""
READY_SHARE = 0.5
"""An operator stops being ready at this share of what has it started again."""


@dataclass
class Pulse:
    """When a loop last turned."""

    clock: Callable[[], float] = time.monotonic
    at: float | None = None

    def beat(self) -> None:
        """It turns."""
        self.at = self.clock()

    def seconds(self) -> float:
        """Since then; 0 for a loop that has not begun."""
        return 0.0 if self.at is None else self.clock() - self.at


@dataclass(frozen=True)
class Check:
    """Something that must not take long."""

    sentence: str
    """With {seconds}."""
    seconds: Callable[[], float]
    """For how long it has been so."""
    limit: float
    """From when on it is stuck."""


@dataclass(frozen=True)
class Health:
    """Answers from the state of the loops."""

    missing: Callable[[], list[str]]
    """What has to happen before the operator is ready."""
    checks: tuple[Check, ...]

    def problem(self, share: float = 1.0) -> str:
        """What is stuck, at a share of the limits; empty if nothing is."""
        for check in self.checks:
            if (seconds := check.seconds()) > check.limit * share:
                return check.sentence.format(seconds=f"{seconds:.0f} s")
        return ""

    def unready(self) -> str:
        """Why the operator is not ready; empty if it is."""
        return ", ".join(self.missing()) or self.problem(READY_SHARE)

    async def serve(self, port: int) -> web.AppRunner:
        """Serve on all addresses; the caller cleans the runner up."""
        application = web.Application()
        application.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", _metrics),
            ]
        )
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, port=port).start()
        return runner

    async def _healthz(self, _: web.Request) -> web.Response:
        return _answer(self.problem())

    async def _readyz(self, _: web.Request) -> web.Response:
        return _answer(self.unready())


def _answer(trouble: str) -> web.Response:
    return web.Response(text=trouble or "ok", status=503 if trouble else 200)


async def _metrics(_: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
