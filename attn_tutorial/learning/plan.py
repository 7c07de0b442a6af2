"""When to read a chapter of a course, and when to come back to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Literal

SHARE = 0.2  # of the days until the test: the gap that was best for delays of some weeks
GROWTH = 2.5  # from one gap to the next: a convention, measured by nobody


@dataclass(frozen=True, order=True)
class Entry:
    """Something to do on a day.

    Attributes
    ----------
    day : datetime.date
    kind : "read" or "review"
    chapter : str
    round : int
        0 for reading, 1 for the first review, and so on.
    """

    day: date
    kind: Literal["read", "review"]
    chapter: str
    round: int


def review_gaps(keep_for: int, *, share: float = SHARE, growth: float = GROWTH) -> list[int]:
    """Days between one sight of a chapter and the next, each longer than the one before.

    The last gap is that share of the days for which the chapter is to be kept, and at least one
    day; the gaps before it are smaller by the factor `growth`, down to one day.

    Parameters
    ----------
    keep_for : int
        Days from the last review to when it is to be remembered; at least 1.
    share : float
        Between 0 and 1.
    growth : float
        Larger than 1.

    Returns
    -------
    list of int
    """
    if keep_for < 1:
        raise ValueError(f"keep_for must be at least one day; got {keep_for}")
    if not 0 < share <= 1 or growth <= 1:
        raise ValueError(f"share must be in (0, 1] and growth above 1; got {share} and {growth}")
    gaps = [max(1.0, share * keep_for)]
    while gaps[0] > 1:
        gaps.insert(0, max(1.0, gaps[0] / growth))
    return [round(gap) for gap in gaps]


def reading_plan(
    start: date,
    chapters: Sequence[str],
    *,
    a_day: int = 1,
    keep_for: int = 60,
    rest: Sequence[int] = (),
    most_reviews: int = 4,
) -> list[Entry]:
    """Days for reading each chapter once, and for reviewing it by recall.

    A review that falls on a day of rest, or on a day that has enough reviews, moves to the next day
    that is free; the reviews after it are counted from there, so that no gap gets shorter.

    Parameters
    ----------
    start : datetime.date
        The first day, unless it is one of rest.
    chapters : sequence of str
        In reading order, no name twice.
    a_day : int
        How many are read on a day.
    keep_for : int
        For how many days after its last review a chapter is to be remembered.
    rest : sequence of int
        Days of the week without reading and reviews: 0 is Monday, 6 is Sunday.
    most_reviews : int
        The reviews of one day are no more than these.

    Returns
    -------
    list of Entry
        In the order of the days; within a day reviews come after reading.
    """
    if a_day < 1 or most_reviews < 1:
        raise ValueError(f"a_day and most_reviews count from 1; got {a_day} and {most_reviews}")
    if len(set(chapters)) < len(chapters):
        raise ValueError("chapters must differ from one another")
    if set(rest) >= set(range(7)):
        raise ValueError("rest leaves no day of the week")
    day, entries = _free(start, rest), []
    for number, chapter in enumerate(chapters):
        if number and number % a_day == 0:
            day = _free(day + timedelta(1), rest)
        entries.append(Entry(day, "read", chapter, 0))
    reviews: dict[date, int] = {}
    waiting = [(entry.day, entry.chapter) for entry in entries]
    for number, gap in enumerate(review_gaps(keep_for), start=1):
        seen, waiting = waiting, []
        for last, chapter in seen:
            day = _free(last + timedelta(gap), rest)
            while reviews.get(day, 0) >= most_reviews:
                day = _free(day + timedelta(1), rest)
            reviews[day] = reviews.get(day, 0) + 1
            entries.append(Entry(day, "review", chapter, number))
            waiting.append((day, chapter))
    order = {chapter: number for number, chapter in enumerate(chapters)}
    return sorted(entries, key=lambda entry: (entry.day, entry.round, order[entry.chapter]))


def _free(day: date, rest: Sequence[int]) -> date:
    while day.weekday() in rest:
        day += timedelta(1)
    return day
