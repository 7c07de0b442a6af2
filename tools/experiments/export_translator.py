"""Put the trained translator of dates into the page: its weights, as a script that a figure loads.

  python -m tools.experiments.export_translator    train it and write both files (half a minute)

The model is the first variant of tools/experiments/transformer_dates.py with the first seed. Its
parameters are rounded to float16, which halves the file. The accuracies stated are those of the
rounded model. Files: _ext/figures/translator_model.js, and what the notebook says of it,
chapters/code/results/translator.json.
"""

import base64
import json
import math
from datetime import date
from pathlib import Path

import numpy as np
import torch
from babel.dates import get_day_names, get_month_names

from attn_tutorial.models import Transformer
from tools.experiments import transformer_dates as dates

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "_ext/figures/translator_model.js"
RESULTS = ROOT / "chapters/code/results/translator.json"

VARIANT, SEED = "Transformer", dates.SEEDS[0]
HEAD = """\
// A trained model: written by python -m tools.experiments.export_translator, not by hand.
attentionFigures.translatorModel = """
TAIL = ";\n"
NUMBER = np.dtype("<f2")  # float16, the low byte first
LINE = 96  # characters
SHOWN = date(2039, 5, 14)  # the date of the chapter's figure, of a held-out year


def trained(steps: int = dates.STEPS):
    """The chapter's model, its vocabulary, the parts of its data, and its losses."""
    parts = dates.split(SEED)
    vocabulary = dates.Vocabulary(parts["training"])
    model, history = dates.fit(VARIANT, SEED, parts, vocabulary, steps=steps)
    return model, vocabulary, parts, history.losses


def packed(model: Transformer) -> dict:
    """The parameters, each once, rounded and in their order; those that are shared, once."""
    shapes, numbers = {}, []
    for name, parameter in model.named_parameters():
        shapes[name] = list(parameter.shape)
        numbers.append(parameter.detach().numpy().astype(NUMBER).tobytes())
    text = base64.b64encode(b"".join(numbers)).decode("ascii")
    return {"shapes": shapes, "weights": [text[i : i + LINE] for i in range(0, len(text), LINE)]}


def unpacked(stored: dict) -> Transformer:
    """The model that the stored parameters make."""
    model = dates.transformer(len(stored["characters"]) + dates.END + 1)
    numbers = np.frombuffer(base64.b64decode("".join(stored["weights"])), NUMBER)
    parameters = dict(model.named_parameters())
    if {name: list(parameter.shape) for name, parameter in parameters.items()} != stored["shapes"]:
        raise ValueError("the stored parameters are not those of the model")
    ends = np.cumsum([math.prod(shape) for shape in stored["shapes"].values()])
    if ends[-1] != len(numbers):
        raise ValueError(f"wanted {ends[-1]} numbers for the shapes; got {len(numbers)}")
    with torch.no_grad():
        for parameter, piece in zip(parameters.values(), np.split(numbers, ends[:-1]), strict=True):
            parameter.copy_(torch.from_numpy(piece.astype(np.float32)).view_as(parameter))
    return model.eval()


def read_script(text: str) -> dict:
    """What the script registers."""
    return json.loads(text.removeprefix(HEAD).removesuffix(TAIL))


def as_script(stored: dict) -> str:
    """One line for each thing, and the weights in lines of even length."""
    lines = [
        f" {json.dumps(name)}: "
        + json.dumps(value, ensure_ascii=False, indent=2 if name == "weights" else None)
        for name, value in stored.items()
    ]
    return HEAD + "{\n" + ",\n".join(lines) + "\n}" + TAIL


def names() -> dict[str, dict[str, str]]:
    """The Hungarian name of each English month and weekday, so that the page can tell the truth."""
    return {
        kind: {english[i]: hungarian[i] for i in english}
        for kind, english, hungarian in (
            ("months", get_month_names(locale="en"), get_month_names(locale="hu")),
            ("weekdays", get_day_names(locale="en"), get_day_names(locale="hu")),
        )
    }


def later_pairs(n: int) -> list[tuple[str, str]]:
    """Dates of the century after those of the training, as in the experiment."""
    return dates.draw(dates.days_of(range(*dates.LATER_YEARS)), n, np.random.default_rng(SEED))


def which_are_right(
    model: Transformer, vocabulary: dates.Vocabulary, pairs: list[tuple[str, str]]
) -> list[bool]:
    """For each pair, whether the model writes the very translation."""
    english, hungarian = zip(*pairs, strict=True)
    written = dates.translate(model, vocabulary, english)
    return [mine == true for mine, true in zip(written, hungarian, strict=True)]


def measured(model: Transformer, vocabulary: dates.Vocabulary, parts: dict) -> dict:
    """How many dates of held-out years and of the century after them it translates."""
    pairs = {"held out": parts["test"], "later": later_pairs(len(parts["test"]))}
    right = {name: which_are_right(model, vocabulary, some) for name, some in pairs.items()}
    return {
        "dates": len(parts["test"]),
        **{f"right, {name}": sum(answers) for name, answers in right.items()},
        # the first mistake, for the reader to look at
        "mistake": pairs["held out"][right["held out"].index(False)][0],
    }


def main() -> None:
    torch.set_num_threads(1)
    model, vocabulary, parts, losses = trained()
    before = sum(which_are_right(model, vocabulary, parts["test"]))
    weights = packed(model)
    stored = {"characters": "".join(vocabulary.characters), **weights}
    accuracy = measured(unpacked(stored), vocabulary, parts)
    years = sorted({int(english[-4:]) for english, _ in parts["test"]})
    stored = {
        "settings": {
            "n_heads": model.encoder[0].attention.n_heads,
            "n_layers": len(model.encoder),
            "max_length": model.max_length,
            "written": dates.WRITTEN,
            "pad": dates.PAD,
            "begin": dates.BEGIN,
            "end": dates.END,
        },
        "accuracy": accuracy,
        "examples": {
            "heldOut": dates.in_words(SHOWN)[0],
            "mistake": accuracy["mistake"],
            "weekday": "Friday" + dates.in_words(SHOWN)[0].removeprefix("Saturday"),
            "later": dates.in_words(SHOWN.replace(year=SHOWN.year + 100))[0],
            "noDate": "Attention",
        },
        "heldOutYears": years,
        "names": names(),
        "characters": "".join(vocabulary.characters),
        **weights,
    }
    SCRIPT.write_text(as_script(stored), encoding="utf-8")
    results = {
        "command": "python -m tools.experiments.export_translator",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "before rounding, right, held out": before,
        **accuracy,
        "short run": [round(loss, 4) for loss in losses[: dates.SHORT]],
    }
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(results)


if __name__ == "__main__":
    main()
