"""How far a watch is behind: what others have shown of the cluster, it should have told as well.

kopf's watch of jobs does not say whether it still hears anything. Each answer to a status that we
wrote, and each list, names a version that the watch has to reach soon.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class WatchLag:
    """By scope of the watch: a namespace, or None for all."""

    clock: Callable[[], float] = time.monotonic
    heard: dict[str | None, int] = field(default_factory=dict)
    """The newest version that the watch told."""
    awaited: dict[str | None, tuple[int, float]] = field(default_factory=dict)
    """The oldest version that it has not told, and since when that is known otherwise."""

    def hear(self, scope: str | None, version: int) -> None:
        """The watch told of a version."""
        self.heard[scope] = max(version, self.heard.get(scope, 0))
        if scope in self.awaited and self.awaited[scope][0] <= self.heard[scope]:
            del self.awaited[scope]

    def expect(self, scope: str | None, version: int) -> None:
        """Something else told of it."""
        if version > self.heard.get(scope, 0):
            self.awaited.setdefault(scope, (version, self.clock()))

    def settle(self, scope: str | None, newest: int) -> None:
        """A list holds nothing newer than this; what was awaited may have been deleted."""
        if newest <= self.heard.get(scope, 0):
            self.awaited.pop(scope, None)
        else:
            self.expect(scope, newest)

    def seconds(self) -> float:
        """How long the least active watch has been behind."""
        now = self.clock()
        return max((now - since for _, since in self.awaited.values()), default=0.0)
