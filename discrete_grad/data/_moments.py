"""Dates and times as text: one moment has many spellings."""

from __future__ import annotations

import re

__all__: list[str] = []

_MOMENT = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)?(?:(?:^|(?<=\d)[ T])(?P<time>\d\d:\d\d)(?::(?P<seconds>\d\d)"
    r"(?:\.(?P<fraction>\d+))?)?\s?(?P<zone>Z|[+-]\d\d:?\d\d)?)?"
)


def moment(text: str) -> tuple[str, ...] | None:
    """What a date, a time, or both say, however they are spelled; None for other text.

    Example:
        >>> moment("2024-05-01") == moment("2024-05-01T00:00:00.000")
        True
        >>> moment("12:30:00.250000+0100")
        ('', '12:30', '00', '25', '+0100')
    """
    found = _MOMENT.fullmatch(text)
    if not text or found is None:
        return None
    parts = {name: part or "" for name, part in found.groupdict().items()}
    zone = parts["zone"].replace("Z", "+0000").replace(":", "")
    fraction = parts["fraction"].rstrip("0")
    return parts["date"], parts["time"] or "00:00", parts["seconds"] or "00", fraction, zone
