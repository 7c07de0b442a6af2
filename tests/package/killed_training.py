"""A training run that kills itself, without a word, where it is told to.

  python -m package.killed_training CHECKPOINT RESULT PLACE NUMBER

PLACE is one of "step", "write", "rename" and "never": during the loss of step NUMBER, in the middle
of writing checkpoint NUMBER, or between writing it and renaming it. A run that is not killed saves
its losses and parameters as RESULT.
"""

import io
import os
import random
import signal
import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from attn_tutorial import training

STEPS = 12
OPTIONS = {
    "batch_size": 4,
    "peak": 0.05,
    "warm_up": 3,
    "validate_every": 3,
    "checkpoint_every": 2,
    "seed": 7,
}


def make():
    """Model and data, from seeds, as a script makes them when it starts, again or not."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  (a loss may draw from it)
    random.seed(0)
    x = torch.randn(10, 3)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 1))
    return model, (x, x.sum(dim=1, keepdim=True))


def noisy_loss(model, x, y):
    """A loss that draws from every generator there is."""
    noise = 0.1 * (np.random.normal() + random.gauss(0, 1))  # noqa: NPY002
    return F.mse_loss(model(x), y + noise)


def validate(model, data):
    return F.mse_loss(model(data[0]), data[1]).item()


def run(api=training, checkpoint=None, loss=noisy_loss, steps=STEPS, **options):
    """The losses, the validations and the parameters of a run, as lists."""
    model, data = make()
    history = api.train(
        model,
        loss,
        data,
        steps=steps,
        validate=lambda model: validate(model, data),
        checkpoint=checkpoint,
        **(OPTIONS | options),
    )
    parameters = [parameter.tolist() for parameter in model.parameters()]
    return {
        "losses": history.losses,
        "validations": [tuple(pair) for pair in history.validations],
        "best_step": history.best_step,
        "parameters": parameters,
    }


class Countdown:
    """Kills the process the given time it is asked to."""

    def __init__(self, number):
        self.left = number

    def is_over(self):
        self.left -= 1
        return self.left == 0

    def kill(self):
        os.kill(os.getpid(), signal.SIGKILL)


def main(checkpoint, result, place, number):
    countdown = Countdown(int(number))
    save, replace = torch.save, os.replace

    def killed_loss(*arguments):
        if place == "step" and countdown.is_over():
            countdown.kill()
        return noisy_loss(*arguments)

    def killed_save(state, file):
        if place == "write" and countdown.is_over():
            whole = io.BytesIO()
            save(state, whole)
            file.write(whole.getvalue()[: len(whole.getvalue()) // 2])
            file.flush()
            countdown.kill()
        save(state, file)

    def killed_replace(*arguments):
        if place == "rename" and countdown.is_over():
            countdown.kill()
        replace(*arguments)

    torch.save, os.replace = killed_save, killed_replace
    outcome = run(checkpoint=checkpoint, loss=killed_loss)
    save(outcome, result)


if __name__ == "__main__":
    main(*sys.argv[1:])
