"""What customers ask for: eight intents, and requests that are none of them.

A star marks the words of a template from which its intent follows, by the author's judgement.
"""

from __future__ import annotations

import itertools

import numpy as np

from attn_tutorial.applications.text_classification.data import PARTS, Text

TEMPLATES = {
    "where is it": (
        "*where *is my {item}",
        "my {item} has *not *arrived yet",
        "can you tell me *when the {item} will be *delivered",
        "i am still *waiting for the {item}",
        "please *track my {item}",
        "*when will my {item} *arrive",
        "the {item} should have been *here on {day}",
        "has the {item} been *shipped",
        "it is {day} and i am *waiting for my {item}",
        "how long will the *delivery of the {item} take",
    ),
    "cancel": (
        "please *cancel my order of the {item}",
        "i do *not *want the {item} *any *more",
        "*stop the order before the {item} is shipped",
        "can i still *cancel the {item}",
        "i ordered the {item} by *mistake , do *not send it",
        "i have changed my mind , *cancel the {item}",
        "i want to *cancel what i ordered on {day}",
        "*stop my order , i do *not need the {item} *any *more",
        "do *not send the {item}",
        "is it too late to *stop the {item}",
    ),
    "send back": (
        "i want to *return the {item}",
        "how do i *send the {item} *back",
        "the {item} does *not *fit , can i *return it",
        "i need a *label to *send *back my {item}",
        "may i *exchange the {item} for another one",
        "i got the {item} on {day} and want to *send it *back",
        "where can i *return a {item}",
        "the {item} is too small , i want to *exchange it",
        "how long may i keep the {item} before i *return it",
        "please send me a *label for the *return of the {item}",
    ),
    "refund": (
        "when do i get my *money *back for the {item}",
        "i have *not got the *refund yet",
        "you have my {item} *back , where is my *money",
        "please *refund the {item}",
        "how long does a *refund take",
        "i sent the {item} back on {day} , where is the *refund",
        "the *money for the {item} is still missing",
        "i am waiting for my *money since {day}",
        "will you *pay me *back for the {item}",
        "has the *refund of my {item} been sent",
    ),
    "broken": (
        "the {item} is *broken",
        "my {item} does *not *work",
        "the {item} *stopped *working on {day}",
        "there is a *crack in the {item}",
        "the {item} came *damaged",
        "my new {item} is *damaged",
        "the {item} is *broken , what can i do",
        "i cannot *use the {item} , it does *not *work",
        "the {item} does *not *turn *on",
        "i got a {item} with a *crack",
    ),
    "address": (
        "please *change my *address to {city}",
        "i have *moved to {city}",
        "send the {item} to {city} and not to my old *address",
        "can the {item} be delivered to another *address",
        "my *address is wrong",
        "my *new *address is in {city}",
        "we *moved on {day} , please send everything to {city}",
        "how can i *change where the {item} is sent",
        "i live in {city} now , *change it please",
        "there is a mistake in my *address",
    ),
    "password": (
        "i cannot *log *in",
        "i *forgot my *password",
        "how can i *reset my *password",
        "my *account is *locked",
        "the *password does not work since {day}",
        "please *reset the *password of my *account",
        "i do not remember my *password",
        "i cannot get into my *account",
        "*log *in does not work",
        "since {day} my *account does not open",
    ),
    "invoice": (
        "please send me the *invoice for the {item}",
        "i need a *bill for the {item}",
        "where can i find the *invoice",
        "there is a mistake in the *invoice of {day}",
        "can i have a *copy of the *bill",
        "i have lost the *invoice of my {item}",
        "the *bill for the {item} is wrong",
        "i never got an *invoice for the {item}",
        "my company needs a *copy of the *invoice",
        "can you *print the *bill for my {item}",
    ),
}
OUT_OF_SCOPE = (
    "are you hiring in {city}",
    "what is the weather in {city} on {day}",
    "tell me a joke",
    "how do i cook rice",
    "is your shop in {city} open on {day}",
    "which {item} do you recommend",
    "how much is the {item}",
    "do you sell a {item}",
    "is the {item} made of wood",
    "where is the train station in {city}",
    "i want to order a taxi to {city}",
    "please play some music",
    "who won the game on {day}",
    "can i have a discount on the {item}",
    "can the {item} be washed",
    "what can you do",
    "i want to speak to a person",
    "do you have the {item} in another colour",
    "how long is the flight to {city}",
    "my dog does not eat since {day}",
)
SLOTS = {
    "item": (
        *("lamp", "phone", "jacket", "kettle", "chair", "camera", "watch", "tent"),
        *("radio", "mirror", "scarf", "drill", "printer", "helmet", "carpet", "guitar"),
    ),
    "city": ("london", "paris", "leeds", "cairo", "delhi", "osaka", "lima", "oslo"),
    "day": ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday", "easter"),
}
BEFORE = ("", "hello ,", "hi ,", "good morning ,")
AFTER = ("", ", thanks", ", thank you", ", please help me")
N_TEMPLATES = (5, 2, 3)  # of each intent, by part
INTENTS = tuple(TEMPLATES)


def templates(part: str) -> list[tuple[int, str]]:
    """The (intent, template) of a part; each intent's templates are dealt at random."""
    if part not in PARTS:
        raise ValueError(f"part must be one of {PARTS}; got {part!r}")
    begin = sum(N_TEMPLATES[: PARTS.index(part)])
    end = begin + N_TEMPLATES[PARTS.index(part)]
    found = []
    for label, intent in enumerate(INTENTS):
        order = np.random.default_rng((3, label)).permutation(sum(N_TEMPLATES))
        found += [(label, TEMPLATES[intent][i]) for i in order[begin:end]]
    return found


def fillers(part: str) -> dict[str, tuple[str, ...]]:
    """What may stand in the slots in a part: half is for training, a quarter for each other."""
    at = PARTS.index(part)
    found = {}
    for slot, words in SLOTS.items():
        ends = (0, len(words) // 2, 3 * len(words) // 4, len(words))
        found[slot] = words[ends[at] : ends[at + 1]]
    return found


def draw_requests(part: str, n_each: int, seed: int) -> list[Text]:
    """n_each requests of every template of a part."""
    rng = np.random.default_rng((seed, 4, PARTS.index(part)))
    return [
        _filled(template, label, part, rng)
        for label, template in templates(part)
        for _ in range(n_each)
    ]


def draw_out_of_scope(n_each: int, seed: int) -> list[Text]:
    """n_each requests that are none of the intents, with the fillers of the test part."""
    rng = np.random.default_rng((seed, 5))
    return [
        _filled(template, -1, "test", rng)
        for template, _ in itertools.product(OUT_OF_SCOPE, range(n_each))
    ]


def _filled(template: str, label: int, part: str, rng: np.random.Generator) -> Text:
    chosen = {slot: str(rng.choice(words)) for slot, words in fillers(part).items()}
    sentence = f"{rng.choice(BEFORE)} {template.format(**chosen)} {rng.choice(AFTER)}"
    words = sentence.split()
    return Text(
        tuple(word.lstrip("*") for word in words),
        label,
        tuple(word.startswith("*") for word in words),
        template,
    )
