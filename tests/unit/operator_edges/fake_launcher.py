"""Launchers in the test's own process, each with an address of its own, over real HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from core_objects import standing_by

from trainyard_operator.contract import ORDER_PATH, STANDBY_PATH, Order, Standby

TOKEN = "secret"


@dataclass
class FakeLauncher:
    """Stands by and takes orders as the trainer's launcher does."""

    address: str
    attempt: int = 1
    standby: Standby | None = None
    asked: int = 0
    orders: list[Order] = field(default_factory=list)
    is_deaf: bool = False
    """Whether it takes connections and never answers."""
    body: str = ""
    """Said in place of a standby."""
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def fail(self, code: int = 137, **fields: object) -> None:
        """Its ranks end."""
        said = standing_by(code, **fields)["standby"].summary
        self.standby = Standby(attempt=self.attempt, summary=vars(said))
        self._news.set()

    async def on_standby(self, request: web.Request) -> web.Response:
        self.asked += 1
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.Response(status=403)
        await self._answer_perhaps()
        if self.standby is None and not self.body:
            try:
                async with asyncio.timeout(float(request.query["wait"])):
                    await self._news.wait()
            except TimeoutError:
                return web.Response(status=204)
        return web.Response(text=self.body or self.standby.to_json())

    async def on_order(self, request: web.Request) -> web.Response:
        await self._answer_perhaps()
        order = Order.from_json(await request.text())
        if order.token != TOKEN:
            return web.Response(status=403)
        if order.attempt <= self.attempt and order not in self.orders:
            return web.Response(status=409)
        self.orders.append(order)
        self.attempt, self.standby = order.attempt, None
        self._news.clear()
        return web.Response(status=202)

    async def _answer_perhaps(self) -> None:
        if self.is_deaf:
            await asyncio.Event().wait()


@asynccontextmanager
async def serve_launchers(*launchers: FakeLauncher) -> AsyncIterator[int]:
    """The port that all of them serve, as pods do."""
    async with AsyncExitStack() as stack:
        port = 0
        for launcher in launchers:
            application = web.Application()
            application.router.add_get(STANDBY_PATH, launcher.on_standby)
            application.router.add_post(ORDER_PATH, launcher.on_order)
            runner = web.AppRunner(application, handler_cancellation=True)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.TCPSite(runner, launcher.address, port).start()
            port = runner.addresses[0][1]
        yield port
