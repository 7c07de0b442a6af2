"""A small grammar that says a sentence in English and in Chinese, and which words correspond.

The grammar is a generator, no text that people wrote. It has what makes the two languages differ
in order: in Chinese time and place stand before the verb, what describes a noun stands before it
with 的, a counted noun needs a measure word, a question ends with 吗, a reason comes first. What it
lacks is almost everything else: each word has one sense, and each sentence one translation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

SUBJECTS = {
    "I": "我",
    "you": "你",
    "he": "他",
    "she": "她",
    "we": "我们",
    "they": "他们",
    "the teacher": "老师",
    "the student": "学生",
    "the doctor": "医生",
    "my mother": "我 妈妈",
    "my brother": "我 哥哥",
}
VERBS = {  # past, Chinese
    "buy": ("bought", "买"),
    "sell": ("sold", "卖"),
    "see": ("saw", "看见"),
    "find": ("found", "找到"),
    "draw": ("drew", "画"),
    "choose": ("chose", "选"),
    "borrow": ("borrowed", "借"),
    "lose": ("lost", "弄丢"),
    "hide": ("hid", "藏"),
    "take": ("took", "拿"),
}
NOUNS = {  # measure word, Chinese
    "book": ("本", "书"),
    "dictionary": ("本", "词典"),
    "notebook": ("本", "笔记本"),
    "car": ("辆", "汽车"),
    "bicycle": ("辆", "自行车"),
    "bird": ("只", "鸟"),
    "cat": ("只", "猫"),
    "shirt": ("件", "衬衫"),
    "coat": ("件", "大衣"),
    "map": ("张", "地图"),
    "ticket": ("张", "票"),
    "umbrella": ("把", "伞"),
    "chair": ("把", "椅子"),
}
DETERMINERS = {
    "a": "一",
    "this": "这",
    "that": "那",
    "two": "两",
    "three": "三",
    "four": "四",
    "five": "五",
    "ten": "十",
}
SINGULAR = {"a", "this", "that"}
ADJECTIVES = {
    "red": "红色",
    "blue": "蓝色",
    "black": "黑色",
    "white": "白色",
    "new": "新",
    "old": "旧",
    "cheap": "便宜",
    "expensive": "贵",
    "big": "大",
    "beautiful": "漂亮",
}
PLACES = {
    "at the market": "市场",
    "at school": "学校",
    "at home": "家",
    "at the station": "车站",
    "at the museum": "博物馆",
    "in the park": "公园",
    "in the library": "图书馆",
    "in the garden": "花园",
    "in Beijing": "北京",
    "in Shanghai": "上海",
}
PAST = {
    "yesterday": "昨天",
    "last week": "上周",
    "last year": "去年",
    "on Monday": "星期一",
    "this morning": "今早",
}
FUTURE = {
    "tomorrow": "明天",
    "next week": "下周",
    "next year": "明年",
    "on Sunday": "星期天",
    "tonight": "今晚",
}
Combination = tuple[str, str]


@dataclass(frozen=True)
class Phrase:
    """Things: "two red books that the teacher bought"."""

    determiner: str
    noun: str
    adjective: str | None = None
    relative: tuple[str, str] | None = None  # who did what to them: subject and verb


@dataclass(frozen=True)
class Clause:
    """Who does what, where and when."""

    subject: str
    verb: str
    things: Phrase
    place: str | None = None
    time: str | None = None
    future: bool = False
    negative: bool = False
    time_first: bool = False


@dataclass(frozen=True)
class Sentence:
    """A statement, with a reason or without, or a question."""

    main: Clause
    question: bool = False
    reason: Clause | None = None

    def combinations(self) -> set[Combination]:
        """The pairs of words that decide which part the sentence may belong to."""
        found = set()
        for clause in filter(None, (self.main, self.reason)):
            noun = clause.things.noun
            found.add((clause.verb, noun))
            if clause.things.relative:
                found.add((clause.things.relative[1], noun))
            if clause.things.adjective:
                found.add((clause.things.adjective, noun))
            if clause.time and clause.place:
                found.add((clause.time, clause.place))
        return found


@dataclass(frozen=True)
class Pair:
    """A sentence, its translation, and which word comes from which.

    Attributes
    ----------
    source, target : tuples of words
    sure, possible : sets of (int, int)
        Links, each a position of the target and one of the source. Those that are sure are
        possible, too.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    sure: frozenset[tuple[int, int]] = frozenset()
    possible: frozenset[tuple[int, int]] = frozenset()


class _Words(list):
    """The English words so far; adding some returns their positions."""

    def add(self, words: str) -> list[int]:
        start = len(self)
        self.extend(words.split())
        return list(range(start, len(self)))


def render(sentence: Sentence) -> Pair:
    """Say a sentence in both languages.

    Parameters
    ----------
    sentence : Sentence

    Returns
    -------
    Pair

    Raises
    ------
    ValueError
        Where a question has a reason or is negative, which the grammar does not have, or a time
        does not fit the tense.
    """
    main = sentence.main
    if sentence.question and (sentence.reason or main.negative):
        raise ValueError("a question must be positive and without a reason")
    english = _Words()
    chinese = _clause(main, english, question=sentence.question)
    if sentence.reason:
        because = english.add("because")
        reason = _clause(sentence.reason, english, question=False)
        middle = [("，", [], because), ("所以", [], because)]
        chinese = [("因为", because, []), *reason, *middle, *chinese]
    end = english.add("?" if sentence.question else ".")
    if sentence.question:
        chinese.append(("吗", end, [_helper(english)]))
    chinese.append(("？" if sentence.question else "。", end, []))
    sure = {(i, j) for i, (_, links, _) in enumerate(chinese) for j in links}
    possible = {(i, j) for i, (_, _, links) in enumerate(chinese) for j in links}
    target = tuple(word for word, _, _ in chinese)
    return Pair(tuple(english), target, frozenset(sure), frozenset(sure | possible))


def _helper(english: list[str]) -> int:
    return next(i for i, word in enumerate(english) if word in {"did", "will"})


def _clause(clause: Clause, english: _Words, *, question: bool) -> list[tuple]:
    """Add the clause to the English words; return the Chinese ones, each with its links."""
    if clause.time and (clause.time in FUTURE) != clause.future:
        raise ValueError(f"time must fit the tense; got {clause.time!r}, future={clause.future}")
    time = []
    if clause.time and clause.time_first and not question:
        time = _time(clause.time, english)
    past, verb = VERBS[clause.verb]
    helper = "will" if clause.future else "did" if question or clause.negative else None
    if question:
        helping = english.add(helper)
    subject = _subject(clause.subject, english)
    if helper and not question:
        helping = english.add(helper)
    negation = english.add("not") if clause.negative else []
    doing = english.add(clause.verb if helper else past)
    things = _things(clause.things, english)
    where = []
    if clause.place:
        at, *_, place = english.add(clause.place)
        where = [("在", [at], []), (PLACES[clause.place], [place], [])]
    if clause.time and not time:
        time = _time(clause.time, english)
    if clause.future:
        tense, after = [("会", helping, [])], []
        if negation:
            tense = [("不", negation, []), *tense]
    elif negation:
        tense, after = [("没", negation, helping)], []
    else:
        tense, after = [], [("了", helping if helper else doing, [])]
    return [*subject, *time, *tense, *where, (verb, doing, []), *after, *things]


def _subject(subject: str, english: _Words) -> list[tuple]:
    positions = english.add(subject)
    words = SUBJECTS[subject].split()
    if len(words) == len(positions):
        return [(word, [j], []) for word, j in zip(words, positions, strict=True)]
    return [(words[0], positions[-1:], positions[:-1])]  # "the" has no word of its own


def _time(time: str, english: _Words) -> list[tuple]:
    return [({**PAST, **FUTURE}[time], *_last(english.add(time)))]


def _last(positions: list[int]) -> tuple[list[int], list[int]]:
    """The last word is sure, those before it are possible."""
    return positions[-1:], positions[:-1]


def _things(things: Phrase, english: _Words) -> list[tuple]:
    singular = things.determiner in SINGULAR
    noun = things.noun if singular else _plural(things.noun)
    following = things.adjective or noun
    vowel = things.determiner == "a" and following[0] in "aeiou"
    how_many = english.add("an" if vowel else things.determiner)
    like = english.add(things.adjective) if things.adjective else []
    what = english.add(noun)
    measure, word = NOUNS[things.noun]
    chinese = [(DETERMINERS[things.determiner], how_many, []), (measure, [], how_many + what)]
    if things.relative:
        who, verb = things.relative
        that = english.add("that")
        chinese += _subject(who, english)
        chinese += [(VERBS[verb][1], english.add(VERBS[verb][0]), []), ("的", that, [])]
    if like:
        chinese += [(ADJECTIVES[things.adjective], like, []), ("的", [], like)]
    return [*chinese, (word, what, [])]


def _plural(noun: str) -> str:
    return noun[:-1] + "ies" if noun.endswith("y") else noun + "s"


def draw_sentence(rng: np.random.Generator) -> Sentence:
    """One sentence at random."""
    main = _draw_clause(rng)
    if rng.random() < 0.2:
        return Sentence(dataclasses.replace(main, negative=False, time_first=False), question=True)
    return Sentence(main, reason=_draw_clause(rng) if rng.random() < 0.25 else None)


def _draw_clause(rng: np.random.Generator) -> Clause:
    def one_of(words: Iterable[str]) -> str:
        words = list(words)
        return words[rng.integers(len(words))]

    def maybe(share: float) -> bool:
        return rng.random() < share

    future = maybe(0.4)
    things = Phrase(
        one_of(DETERMINERS),
        one_of(NOUNS),
        one_of(ADJECTIVES) if maybe(0.5) else None,
        (one_of(SUBJECTS), one_of(VERBS)) if maybe(0.25) else None,
    )
    time = one_of(FUTURE if future else PAST) if maybe(0.6) else None
    return Clause(
        one_of(SUBJECTS),
        one_of(VERBS),
        things,
        one_of(PLACES) if maybe(0.5) else None,
        time,
        future,
        maybe(0.25),
        time is not None and maybe(0.4),
    )
