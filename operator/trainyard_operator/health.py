"""/healthz, /readyz and /metrics: they fail when a loop is stuck, not only when the process is."""

from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

SILENT_WATCH_SECONDS = 240.0
"""A watch hears a bookmark each minute or is taken up again, so this one hangs. An API server
that is away is no reason to start the operator again: its watch keeps trying."""
STUCK_QUEUE_SECONDS = 300.0


@dataclass(frozen=True)
class Health:
    """Answers from the state of the loops."""

    missing: Callable[[], list[str]]
    """What has to happen before the operator is ready."""
    watch_silence: Callable[[], float]
    """Seconds since the pod watch was last active."""
    oldest_job: Callable[[], float]
    """Seconds that a job has been waiting or worked on."""

    def problem(self) -> str:
        """Why the operator should be started again; empty if it is well."""
        if self.watch_silence() > SILENT_WATCH_SECONDS:
            return f"the watch of pods has been silent for {self.watch_silence():.0f} s"
        if self.oldest_job() > STUCK_QUEUE_SECONDS:
            return f"a job has been waiting for {self.oldest_job():.0f} s"
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
        missing = ", ".join(self.missing())
        return web.Response(text=missing or "ok", status=503 if missing else 200)


async def _metrics(_: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
