"""Times, sizes and numbers as people read them."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    """The one clock of the client."""
    return datetime.now(UTC)


def parse_time(text: str | None) -> datetime | None:
    """A Kubernetes timestamp; None where there is none or it cannot be read."""
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


def duration_text(seconds: float) -> str:
    """`7s`, `4m30s`, `15m`, `3h`, `2d4h`: two units at most, as kubectl writes ages."""
    whole = max(int(seconds), 0)
    if whole < 120:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 10:
        return f"{minutes}m{rest}s" if rest else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    if hours < 8:
        return f"{hours}h{minutes}m" if minutes else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    days, hours = divmod(hours, 24)
    return f"{days}d{hours}h" if days < 8 and hours else f"{days}d"


def spoken_duration(seconds: float) -> str:
    """`41 s`, `4 min 30 s`, `2 h 5 min`: for sentences."""
    whole = max(int(seconds), 0)
    if whole < 60:
        return f"{whole} s" if whole >= 10 else f"{max(seconds, 0):.1f} s"
    if whole < 3600:
        minutes, rest = divmod(whole, 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def age_text(time: str | None, now: datetime) -> str:
    """How long ago, or nothing."""
    then = parse_time(time)
    return duration_text((now - then).total_seconds()) if then else ""


def size_text(size_bytes: int) -> str:
    """`512 B`, `3.4 MB`, `1.2 GB`: powers of ten."""
    size = float(size_bytes)
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def number_text(value: object) -> str:
    """At most four significant digits; text that is no number stays."""
    try:
        return f"{float(str(value)):.4g}"
    except ValueError:
        return str(value)


def clock_text(time: str | None, now: datetime) -> str:
    """`11:03`, with the date where it is another day; local time."""
    then = parse_time(time)
    if then is None:
        return "     "
    local, today = then.astimezone(), now.astimezone()
    return local.strftime("%H:%M" if local.date() == today.date() else "%Y-%m-%d %H:%M")
