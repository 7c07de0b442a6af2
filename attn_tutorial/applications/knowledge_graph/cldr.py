"""What the CLDR says of territories and languages, read through Babel.

The CLDR is the data base from which programs learn how dates, numbers and money are written in each
part of the world. Babel has no containment of territories (which lies in which region); the first
part of the name of a time zone, Africa or Europe, stands in for it.
"""

from __future__ import annotations

from collections.abc import Iterable

from babel import Locale
from babel.core import get_global
from babel.localedata import locale_identifiers

OFFICIAL = ("official", "de_facto_official", "official_regional")
NO_TERRITORIES = ("EU", "UN", "ZZ")  # unions, and the unknown
LEAST_PERCENT = 2
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def read_facts() -> set[tuple[str, str, str]]:
    """All facts that are read from Babel, as (subject, relation, object) in words.

    Returns
    -------
    set of (str, str, str)
        Each entity begins with its kind: "territory CH", "language de", "currency CHF".
    """
    facts = set(_of_languages()) | set(_of_money()) | set(_of_places()) | set(_of_habits())
    languages = {thing for _, _, thing in facts if thing.startswith("language ")}
    likely = get_global("likely_subtags")
    for language in languages:
        code = language.removeprefix("language ")
        if code in likely:
            facts.add((language, "is written in", f"script {likely[code].split('_')[1]}"))
    return facts


def in_words(entity: str) -> str:
    """The English name of an entity.

    Parameters
    ----------
    entity : str
        As in `read_facts`.

    Returns
    -------
    str
        Where the CLDR has no English name, the code.
    """
    kind, _, code = entity.partition(" ")
    english = Locale("en")
    return {
        "territory": lambda: english.territories.get(code, code),
        "language": lambda: _language(code),
        "currency": lambda: english.currencies.get(code, code),
        "script": lambda: f"{english.scripts.get(code, code)} script",
        "time": lambda: f"{code.replace('_', ' ')} time",
        "clock": lambda: f"{code} hours",
        "sign": lambda: f"decimal {code}",
    }.get(kind, lambda: code)()


# --- out of Babel ----------------------------------------------------------------------------


def _language(code: str) -> str:
    code, _, script = code.partition("_")
    english = Locale("en")
    name = english.languages.get(code, code)
    return f"{name} ({english.scripts.get(script, script)})" if script else name


def _territories() -> dict[str, dict]:
    """The languages of each territory."""
    spoken = get_global("territory_languages")
    return {code: spoken[code] for code in sorted(spoken) if code not in NO_TERRITORIES}


def _of_languages() -> Iterable[tuple[str, str, str]]:
    for code, languages in _territories().items():
        for language, how in languages.items():
            fact = f"territory {code}", f"language {language}"
            if how["official_status"] in OFFICIAL:
                yield fact[0], "official language", fact[1]
            elif how["population_percent"] >= LEAST_PERCENT:
                yield fact[0], "also spoken", fact[1]


def _of_money() -> Iterable[tuple[str, str, str]]:
    money = get_global("territory_currencies")
    for code in _territories():
        tender = [entry for entry in money.get(code, []) if entry[3]]
        now = {currency for currency, _, end, _ in tender if end is None}
        for currency in {currency for currency, *_ in tender}:
            relation = "pays in" if currency in now else "paid in"
            yield f"territory {code}", relation, f"currency {currency}"


def _of_places() -> Iterable[tuple[str, str, str]]:
    zones, times = get_global("territory_zones"), get_global("meta_zones")
    for code in _territories():
        for zone in zones.get(code, []):
            area = zone.split("/")[0]
            if area != "Etc":
                yield f"territory {code}", "lies in", f"area {area}"
            if zone in times:
                yield f"territory {code}", "keeps the time of", f"time {times[zone]}"


def _of_habits() -> Iterable[tuple[str, str, str]]:
    """How weeks begin, numbers and hours are written: from the locales of each territory."""
    territories, weeks = _territories(), set()
    for identifier in sorted(locale_identifiers()):
        locale = Locale.parse(identifier)
        code = locale.territory
        if code not in territories:
            continue
        subject = f"territory {code}"
        if code not in weeks:  # it is the same in all locales of a territory
            weeks.add(code)
            yield subject, "week begins on", f"day {DAYS[locale.first_week_day]}"
            yield subject, "weekend begins on", f"day {DAYS[locale.weekend_start]}"
        languages = territories[code]
        how = languages.get(f"{locale.language}_{locale.script}") or languages.get(locale.language)
        if how and how["official_status"] in OFFICIAL:
            signs = locale.number_symbols
            numerals = locale.default_numbering_system
            if "decimal" not in signs.get(numerals, {}):
                numerals = "latn"
            yield subject, "decimal sign", f"sign {signs[numerals]['decimal']}"
            pattern = locale.time_formats["short"].pattern
            yield subject, "clock", f"clock {'12' if set('ahbB') & set(pattern) else '24'}"
