"""/healthz, /readyz and /metrics: they fail when a loop is stuck, not only when the process is."""

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

STALE_WATCH_SECONDS = 660.0
"""Two watches' lifetimes: the API server was not heard of for longer than it lets a watch live."""
STUCK_QUEUE_SECONDS = 300.0


@dataclass(frozen=True)
class Health:
    """Answers from the state of the loops."""

    is_synced: Callable[[], bool]
    """Whether the pods have been listed once."""
    watch_age: Callable[[], float]
    """Seconds since the API server was heard of."""
    oldest_wait: Callable[[], float]
    """Seconds that the first key has been waiting to be worked on."""

    def problem(self) -> str:
        """Why the operator should be started again; empty if it is well."""
        if self.is_synced() and self.watch_age() > STALE_WATCH_SECONDS:
            return f"no word from the API server for {self.watch_age():.0f} s"
        if self.oldest_wait() > STUCK_QUEUE_SECONDS:
            return f"a job has been waiting for {self.oldest_wait():.0f} s"
        return ""

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
        problem = self.problem()
        return web.Response(text=problem or "ok", status=503 if problem else 200)

    async def _readyz(self, _: web.Request) -> web.Response:
        if not self.is_synced():
            return web.Response(text="pods are not listed yet", status=503)
        return web.Response(text="ok")


async def _metrics(_: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
