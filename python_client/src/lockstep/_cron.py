"""Cron expressions: what is one, and when it ticks; both are the library's word."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from itertools import takewhile
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from ._checks import refuse_other_type
from ._errors import InvalidArgument

_ALIASES = {
    "@YEARLY": "0 0 1 1 *",
    "@ANNUALLY": "0 0 1 1 *",
    "@MONTHLY": "0 0 1 * *",
    "@WEEKLY": "0 0 * * 0",
    "@DAILY": "0 0 * * *",
    "@MIDNIGHT": "0 0 * * *",
    "@HOURLY": "0 * * * *",
}
_MAX_LENGTH = 512
_WALKED = timedelta(minutes=10)
"""The span in which each tick is looked at when one looks for the latest."""


class Cron:
    """
    A cron expression in a time zone; raises InvalidArgument if either is not known.

    >>> after = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)
    >>> next(Cron("0 9 * * MON", "Europe/Berlin").ticks_after(after)).isoformat()
    '2026-11-23T08:00:00+00:00'
    """

    def __init__(self, expression: str, time_zone: str = "UTC") -> None:
        refuse_other_type("cron", expression, str)
        refuse_other_type("time_zone", time_zone, str)
        text = expression.replace("\t", " ").strip(" ")
        self._expression = _ALIASES.get(text.upper(), text)
        try:
            # names only of the database's sort: it splits at blanks and knows ASCII
            if len(expression) > _MAX_LENGTH or not (text.isascii() and text.isprintable()):
                raise CronSimError("Bad character or more than 512 of them")
            CronSim(self._expression, datetime(2026, 1, 1))
        except CronSimError as error:
            raise InvalidArgument(
                f'cron expression "{expression[:100]}" is not valid: {error}. Write five fields'
                " (minute, hour, day of month, month, day of week), six with the seconds first,"
                " or @hourly, @daily, @weekly, @monthly or @yearly"
            ) from error
        try:
            self._zone = timezone.utc if time_zone == "UTC" else ZoneInfo(time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise InvalidArgument(
                f'time zone "{time_zone[:100]}" is not known to Python: pass a name such as'
                " Europe/Berlin"
            ) from error

    def ticks_after(self, moment: datetime) -> Iterator[datetime]:
        """Iterate over the ticks after a moment, in UTC; none if none comes in 50 years."""
        for tick in CronSim(self._expression, moment.astimezone(self._zone)):
            tick = tick.astimezone(timezone.utc)
            if tick > moment:  # in the hour that a zone repeats, the library begins anew
                yield tick

    def latest_tick(self, after: datetime, until: datetime) -> datetime | None:
        """Return the latest tick after a moment and not after another, if there is one."""
        # halved, as there may be millions; never backward, which is not the same in all zones
        latest = None
        while until - after > _WALKED:
            middle = after + (until - after) / 2
            tick = next(self.ticks_after(middle), None)
            if tick is None or tick > until:
                until = middle
            else:
                latest = after = tick
        for tick in takewhile(lambda tick: tick <= until, self.ticks_after(after)):
            latest = tick
        return latest
