"""Train a small attention model to say what kind of value a parameter takes, and ask it.

  python -m attn_tutorial.parameter_kinds train runs/first        train, score, draw the curves
  python -m attn_tutorial.parameter_kinds baselines runs/first    score what is simpler
  python -m attn_tutorial.parameter_kinds ask runs/first "Whether to copy the data."

A run that was interrupted, even killed, goes on where it was with the same command. Its folder gets
the settings, the checkpoint, the model, the scores and curves.png.
"""

from __future__ import annotations

import argparse
import signal
import sys
from dataclasses import fields
from pathlib import Path

import torch

from attn_tutorial.parameter_kinds.data import KINDS, PADDING, load_examples, split, words_of
from attn_tutorial.parameter_kinds.training import MODELS, Settings, load_model, run

INTERRUPTED = 130  # the exit status by which shells know it


class Interruption:
    """Waits for Ctrl-C, or a request to end, so that the step under way is finished first."""

    def __init__(self) -> None:
        self.requested = False
        self.previous: dict[int, object] = {}

    def __enter__(self) -> Interruption:
        for number in (signal.SIGINT, signal.SIGTERM):
            self.previous[number] = signal.signal(number, self._request)
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def _request(self, number: int, frame: object) -> None:
        self.requested = True
        signal.signal(number, self.previous[number])  # a second one ends the program at once


def train_command(arguments: argparse.Namespace) -> int:
    names = {field.name for field in fields(Settings)}
    settings = Settings(**{key: value for key, value in vars(arguments).items() if key in names})
    print("Reading the docstrings of seven libraries (the first time, about ten seconds)...")
    with Interruption() as interruption:
        history, scores = run(
            arguments.folder,
            settings,
            progress=not arguments.quiet,
            should_stop=lambda: interruption.requested,
        )
    if scores is None:
        print(f"Stopped after step {len(history.losses)}. The same command goes on from there.")
        return INTERRUPTED
    draw_curves(history, arguments.folder / "curves.png")
    print(f"{scores['steps']} steps; lowest validation loss after step {scores['best step']}.")
    for part in ("validation", "test"):
        print_scores(part, scores[part])
    print(f"Curves: {arguments.folder / 'curves.png'}")
    return 0


def baselines_command(arguments: argparse.Namespace) -> int:
    from attn_tutorial.parameter_kinds.baselines import fit_baselines, score_baselines

    arguments.folder.mkdir(parents=True, exist_ok=True)
    parts = split(load_examples(arguments.folder / "examples.json"))
    for name, scores in score_baselines(fit_baselines(parts), parts).items():
        print(name)
        for part in ("validation", "test"):
            print_scores(f"  {part}", scores[part])
    return 0


def ask_command(arguments: argparse.Namespace) -> int:
    model, vocabulary, settings = load_model(arguments.folder)
    tokens = vocabulary.encode([arguments.text], length=settings.length)  # (1, length)
    with torch.no_grad():
        if settings.model == "attention":
            logits, weights = model.attend(tokens)  # (1, n_kinds), (1, length)
        else:
            words = (tokens != PADDING).float()
            logits, weights = model(tokens), words / words.sum()
    shares = logits[0].softmax(dim=-1)
    for i in shares.argsort(descending=True):
        print(f"{KINDS[i]:10} {shares[i]:6.1%}")
    print("\nWhat the decision attends to:")
    for word, weight in zip(words_of(arguments.text)[: settings.length], weights[0], strict=False):
        unknown = "" if word in vocabulary.number else "  (unknown)"
        print(f"{weight:6.1%}  {word}{unknown}")
    return 0


def print_scores(name: str, scores: dict[str, float]) -> None:
    print(f"{name:12} accuracy {scores['accuracy']:.3f}, macro F1 {scores['macro F1']:.3f}")


def draw_curves(history, path: Path) -> None:
    """The losses of the batches and of the validations, over the steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    steps = range(1, len(history.losses) + 1)
    axes.plot(steps, history.losses, linewidth=0.6, alpha=0.6, label="training, each batch")
    if history.validations:
        axes.plot(*zip(*history.validations, strict=True), marker="o", label="validation")
        axes.axvline(history.best_step, linestyle=":", color="grey", label="kept model")
    axes.set_xlabel("step")
    axes.set_ylabel("cross-entropy (nats)")
    axes.legend()
    figure.savefig(path, dpi=120)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m attn_tutorial.parameter_kinds",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(required=True, metavar="train | baselines | ask")
    default = Settings()

    train = commands.add_parser("train", help="train in a folder, or go on with the run there")
    train.set_defaults(command=train_command)
    train.add_argument("--model", choices=MODELS, default=default.model)
    for name, words in {
        "seed": "of parameters, dropout and order",
        "steps": "at most",
        "n_layers": "layers of the encoder",
        "d_model": "width of the vectors",
        "batch_size": "examples a step",
        "patience": "validations without improvement before it stops",
        "validate_every": "steps from validation to validation",
        "checkpoint_every": "steps from checkpoint to checkpoint",
    }.items():
        train.add_argument(
            "--" + name.replace("_", "-"),
            type=int,
            default=getattr(default, name),
            metavar="N",
            help=f"{words} (default: {getattr(default, name)})",
        )
    train.add_argument("--quiet", action="store_true", help="no progress bar")

    baselines = commands.add_parser("baselines", help="score what is simpler")
    baselines.set_defaults(command=baselines_command)

    ask = commands.add_parser("ask", help="ask a trained model about a description")
    ask.set_defaults(command=ask_command)

    for command in (train, baselines, ask):
        command.add_argument("folder", type=Path, help="the run's folder")
    ask.add_argument("text", help="the description of a parameter")
    return top


def main(words: list[str] | None = None) -> int:
    arguments = parser().parse_args(words)
    torch.set_num_threads(1)  # another number of threads ends in other bits
    try:
        return arguments.command(arguments)
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
