"""Training: what must hold for any such loop, checked also against loops with one mistake.

The heart of it: a run that was killed and started again ends with the same bits as one that was
not.
"""

import io
import itertools
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
from itertools import chain
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attn_tutorial import training
from package.killed_training import OPTIONS, STEPS, make, noisy_loss, run
from package.zoo import Zoo, ZooTests, rewritten

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def plain_loss(model, x, y):
    return F.mse_loss(model(x), y)


class Interrupted(BaseException):
    """As when somebody presses Ctrl-C."""


def interrupted_at(number):
    """The noisy loss, that is broken off the given time it is called."""
    calls = itertools.count(1)

    def loss(*arguments):
        if next(calls) == number:
            raise Interrupted
        return noisy_loss(*arguments)

    return loss


# --- checks ----------------------------------------------------------------------------------


@check
def the_rate_is_that_of_the_paper(api):
    d_model, warm_up = 512, 4000
    peak = (d_model * warm_up) ** -0.5
    for step in (1, 2, 3999, 4000, 4001, 100_000):
        formula = d_model**-0.5 * min(step**-0.5, step * warm_up**-1.5)
        rate = api.warmed_up_rate(step, peak=peak, warm_up=warm_up)
        assert math.isclose(rate, formula, rel_tol=1e-12)
    assert api.warmed_up_rate(warm_up, peak=3.0, warm_up=warm_up) == 3.0


@check
def an_epoch_shows_every_example_once(api):
    epochs = []
    for seed in (0, 1):
        batches = [
            api.batch_indices(step, n=10, batch_size=4, seed=seed).tolist() for step in range(1, 7)
        ]
        assert [len(batch) for batch in batches] == [4, 4, 2, 4, 4, 2]
        epochs += [[*chain(*batches[:3])], [*chain(*batches[3:])]]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 4  # each epoch and each seed has its own order


@check
def a_run_is_a_plain_loop(api):
    """The same steps by hand: schedule, clipping, no decay of biases."""
    for clip in (0.05, 1000.0):
        model, data = make()
        history = api.train(
            model,
            plain_loss,
            data,
            steps=9,
            batch_size=4,
            peak=0.03,
            warm_up=4,
            weight_decay=0.5,
            clip=clip,
            seed=3,
        )
        by_hand, _ = make()
        losses = plain_loop(by_hand, data, clip)
        assert history.losses == losses
        for mine, theirs in zip(model.parameters(), by_hand.parameters(), strict=True):
            assert torch.equal(mine, theirs)


def plain_loop(model, data, clip):
    matrices = [parameter for parameter in model.parameters() if parameter.ndim == 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    groups = [
        {"params": matrices, "weight_decay": 0.5},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=0.03)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda i: min((i + 1) / 4, math.sqrt(4 / (i + 1)))
    )
    losses = []
    for step in range(1, 10):
        batch = training.batch_indices(step, n=10, batch_size=4, seed=3)
        optimizer.zero_grad()
        loss = plain_loss(model, *(tensor[batch] for tensor in data))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses


@check
def the_schedule_can_be_another(api):
    model, data = make()
    rates = []

    def schedule(step, *, peak, warm_up):
        rates.append((step, peak, warm_up))
        return 0.0

    before = [parameter.clone() for parameter in model.parameters()]
    api.train(model, plain_loss, data, steps=3, peak=2.0, warm_up=7, schedule=schedule)
    assert rates == [(step, 2.0, 7) for step in (1, 2, 3)]
    assert all(map(torch.equal, before, model.parameters()))


@check
def a_finished_run_can_go_on(api):
    longer = run(api, steps=STEPS)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "run.pt"
        run(api, checkpoint=checkpoint, steps=5)
        assert run(api, checkpoint=checkpoint) == longer
        assert run(api, checkpoint=checkpoint, loss=None) == longer  # nothing left to do


@check
def a_broken_write_leaves_the_last_checkpoint(api):
    whole = run(api)
    save = torch.save

    def broken_save(state, file):
        if len(state["history"]["losses"]) == 6:
            content = io.BytesIO()
            save(state, content)
            half = content.getvalue()[: len(content.getvalue()) // 2]
            file.write(half) if hasattr(file, "write") else Path(file).write_bytes(half)
            raise Interrupted
        save(state, file)

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "run.pt"
        with mock.patch.object(torch, "save", broken_save), pytest.raises(Interrupted):
            run(api, checkpoint=checkpoint)
        assert run(api, checkpoint=checkpoint) == whole
        assert [file.name for file in Path(folder).iterdir()] == ["run.pt"]


@check
def validation_happens_in_evaluation_mode(api):
    model, data = make()
    model[0].eval()  # one module is not in training mode, and must not be put into it
    modes = []

    def validate(model):
        modes.append((model.training, model[2].training, torch.is_grad_enabled()))
        return plain_loss(model, *data).item()

    def loss(model, *batch):
        modes.append((model.training, model[2].training, torch.is_grad_enabled()))
        assert not model[0].training
        return plain_loss(model, *batch)

    api.train(model, loss, data, steps=2, validate=validate, validate_every=1)
    assert modes == [(True, True, True), (False, False, False)] * 2
    assert model.training
    modes.clear()
    api.mean_loss(model, lambda model, *batch: torch.tensor(float(model.training)), data)
    assert api.mean_loss(model, lambda model, *_: torch.tensor(1.0 * model.training), data) == 0


@check
def the_best_parameters_are_kept(api):
    """The validation losses are given; the run must stop in time and go back."""
    for patience, given, stop, best in (
        (2, [5, 4, 6, 7, 1, 1], 4, 2),
        (2, [5, 4, 6, 3, 4, 3, 1], 6, 4),
        (None, [5, 4, 6, 7, 8, 5], 6, 2),
        (1, [5, 5, 1, 1], 2, 1),  # no better is not better
    ):
        model, data = make()
        kept, validations = [], iter(given)

        def validate(model, kept=kept, validations=validations):
            kept.append([parameter.clone() for parameter in model.parameters()])
            return next(validations)

        history = api.train(
            model,
            plain_loss,
            data,
            steps=2 * len(given),
            validate=validate,
            validate_every=2,
            patience=patience,
        )
        assert history.validations == [(2 * i, given[i - 1]) for i in range(1, stop + 1)]
        assert len(history.losses) == 2 * stop
        assert history.best_step == 2 * best
        for mine, wanted in zip(model.parameters(), kept[best - 1], strict=True):
            assert torch.equal(mine, wanted)


@check
def a_run_that_stopped_early_stays_stopped(api):
    with tempfile.TemporaryDirectory() as folder:
        options = {"checkpoint": Path(folder) / "run.pt", "patience": 1, "peak": 3.0, "steps": 40}
        stopped = run(api, **options)
        assert len(stopped["losses"]) < 40
        assert run(api, loss=None, **options) == stopped


@check
def other_settings_are_refused(api):
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "run.pt"
        run(api, checkpoint=checkpoint, steps=3)
        for name, other in (("batch_size", 5), ("peak", 0.1), ("warm_up", 9), ("seed", 1)):
            with pytest.raises(ValueError, match=f"{name} = .* wanted {other}"):
                run(api, checkpoint=checkpoint, **{name: other})


@check
def the_mean_loss_weighs_by_examples(api):
    model, data = make()
    model.eval()
    with torch.no_grad():
        wanted = plain_loss(model, *data).item()
    for batch_size in (1, 4, 10, 256):
        assert math.isclose(
            api.mean_loss(model, plain_loss, data, batch_size=batch_size), wanted, rel_tol=1e-5
        )


@check
def a_loss_that_is_not_finite_stops_the_run(api):
    model, data = make()
    before = [parameter.clone() for parameter in model.parameters()]
    with pytest.raises(FloatingPointError, match="the loss of step 1 is nan"):
        api.train(model, lambda model, x, y: plain_loss(model, x, y) * math.nan, data, steps=3)
    assert all(map(torch.equal, before, model.parameters()))
    with pytest.raises(FloatingPointError, match="validation loss after step 1 is inf"):
        api.train(model, plain_loss, data, steps=3, validate=lambda _: math.inf, validate_every=1)


@check
def a_resumed_run_ends_with_the_same_bits(api):
    whole = run(api)
    assert len(whole["losses"]) == STEPS
    assert len(whole["validations"]) == STEPS // OPTIONS["validate_every"]
    for every, broken_off in itertools.product((1, 5), range(1, STEPS + 1)):
        with tempfile.TemporaryDirectory() as folder:
            checkpoint = Path(folder) / "run.pt"
            options = {"checkpoint": checkpoint, "checkpoint_every": every}
            try:
                run(api, loss=interrupted_at(broken_off), **options)
            except Interrupted:
                assert checkpoint.exists() == (broken_off > every)
            assert run(api, **options) == whole


@check
def a_run_interrupted_many_times_ends_with_the_same_bits(api):
    whole = run(api)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "run.pt"
        for _ in range(STEPS):
            try:
                run(api, loss=interrupted_at(2), checkpoint=checkpoint, checkpoint_every=1)
            except Interrupted:
                continue
        assert run(api, checkpoint=checkpoint, checkpoint_every=1) == whole


# --- killed for good -------------------------------------------------------------------------


def start(checkpoint, result, place, number):
    command = [sys.executable, "-m", "package.killed_training", checkpoint, result, place, number]
    folders = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parents[2])])
    environment = os.environ | {"PYTHONPATH": folders}
    return subprocess.run([*map(str, command)], env=environment, check=False).returncode


@pytest.mark.parametrize(("place", "number"), [("step", 8), ("write", 3), ("rename", 4)])
def test_a_killed_process_resumes_with_the_same_bits(tmp_path, place, number):
    checkpoint, result = tmp_path / "run.pt", tmp_path / "result.pt"
    assert start(checkpoint, result, place, number) == -signal.SIGKILL
    assert not result.exists()
    if place != "step":  # what it was writing is there, and unfinished or not yet in its place
        assert (tmp_path / "run.pt.partial").exists()
    if place == "step":
        assert start(checkpoint, result, "never", 0) == 0
        assert torch.load(result) == run()
    else:  # a new process is no other than this one: twice two seconds less
        assert run(checkpoint=checkpoint) == run()


# --- broken training -------------------------------------------------------------------------

BROKEN = {
    "no optimiser in the checkpoint": (
        '        self.optimizer.load_state_dict(state["optimizer"])\n',
        "",
    ),
    "no model in the checkpoint": ('        self.model.load_state_dict(state["model"])\n', ""),
    "no generators in the checkpoint": (
        '        _restore_generators(state["generators"])\n',
        "",
    ),
    "torch's generator forgotten": ('    torch.set_rng_state(states["torch"])\n', ""),
    "NumPy's generator forgotten": ("    np.random.set_state(", "    str("),
    "Python's generator forgotten": ('    random.setstate(states["python"])\n', ""),
    "best parameters forgotten": (
        '        self.best_parameters = state["best_parameters"]\n',
        "",
    ),
    "counting anew after a resume": (
        'self.history = History(**state["history"])',
        "self.history = History()",
    ),
    "the order starts anew after a resume": (
        "    number = run.step + 1\n    indices = batch_indices(\n        number,",
        "    run.count = getattr(run, 'count', 0) + 1\n"
        "    number = run.step + 1\n    indices = batch_indices(\n        run.count,",
    ),
    "checkpoint before validation": (
        "        if validate is not None and run.step % validate_every == 0:\n"
        "            run.note_validation(validate)\n"
        "        if checkpoint is not None and run.step % checkpoint_every == 0:\n"
        "            run.save(Path(checkpoint), settings)\n",
        "        if checkpoint is not None and run.step % checkpoint_every == 0:\n"
        "            run.save(Path(checkpoint), settings)\n"
        "        if validate is not None and run.step % validate_every == 0:\n"
        "            run.note_validation(validate)\n",
    ),
    "written in place": (
        '        partial = path.with_name(path.name + ".partial")\n',
        "        partial = path\n",
    ),
    "no checkpoint at the end": (
        "    if checkpoint is not None and run.step % checkpoint_every != 0:\n",
        "    if False:\n",
    ),
    "other settings accepted": ('if state["settings"][name] != wanted:', "if False:"),
    "one order for all epochs": ("default_rng((seed, epoch))", "default_rng(seed)"),
    "one order for all seeds": ("default_rng((seed, epoch))", "default_rng(epoch)"),
    "examples drawn with replacement": (".permutation(n)", ".integers(n, size=n)"),
    "last batch left out": ("math.ceil(n / batch_size)", "n // batch_size"),
    "rate of the next step": (
        "schedule(run.step + 1, peak",
        "schedule(run.step + 2, peak",
    ),
    "rate goes on rising": (
        "min(step / warm_up, math.sqrt(warm_up / step))",
        "step / warm_up",
    ),
    "rate does not warm up": (
        "min(step / warm_up, math.sqrt(warm_up / step))",
        "min(1.0, math.sqrt(warm_up / step))",
    ),
    "rate falls too fast": ("math.sqrt(warm_up / step))", "warm_up / step)"),
    "rate never set": (
        '        group["lr"] = rate',
        '        group["rate"] = rate',
    ),
    "schedule ignored": (
        "        rate = schedule(",
        "        rate = warmed_up_rate(",
    ),
    "no clipping": (
        '    nn.utils.clip_grad_norm_(run.model.parameters(), settings["clip"])\n',
        "",
    ),
    "clipping before the gradient is there": (
        "    value.backward()\n"
        '    nn.utils.clip_grad_norm_(run.model.parameters(), settings["clip"])\n',
        '    nn.utils.clip_grad_norm_(run.model.parameters(), settings["clip"])\n'
        "    value.backward()\n",
    ),
    "gradients pile up": ("    run.optimizer.zero_grad()\n", ""),
    "biases decay": (
        '{"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0}',
        '{"params": [p for p in parameters if p.ndim < 2], "weight_decay": weight_decay}',
    ),
    "validation in training mode": ("    model.eval()\n", ""),
    "validation with gradients": (
        "        with torch.no_grad():\n            yield\n",
        "        yield\n",
    ),
    "still in evaluation mode afterwards": (
        "            module.training = mode\n",
        "            module.training = False\n",
    ),
    "all in training mode afterwards": (
        "            module.training = mode\n",
        "            module.training = True\n",
    ),
    "best parameters not restored": (
        "        model.load_state_dict(run.best_parameters)\n",
        "        pass\n",
    ),
    "best parameters not copied": (
        "copy.deepcopy(self.model.state_dict())",
        "self.model.state_dict()",
    ),
    "the last is kept, not the best": ("if validation < self.best:", "if True:"),
    "as good counts as better": ("validation < self.best", "validation <= self.best"),
    "one too patient": ("len(since) >= patience", "len(since) > patience"),
    "impatient about all validations": ("if step > self.history.best_step]", "if step]"),
    "mean over batches": (
        "total += loss(model, *batch).item() * len(batch[0])",
        "total += loss(model, *batch).item() * batch_size",
    ),
    "stepping on NaN": ("if not torch.isfinite(value):", "if False:"),
    "validating to infinity": ("if not math.isfinite(validation):", "if False:"),
}


class TestTraining(ZooTests):
    zoo = Zoo(CHECKS, rewritten(training, BROKEN), BROKEN)


# --- errors in words, and silence ------------------------------------------------------------

ERRORS = {
    "steps must be at least 1; got 0": {"steps": 0},
    "batch_size must be at least 1; got 0": {"batch_size": 0},
    "peak must be above 0; got nan": {"peak": math.nan},
    "clip must be above 0; got 0": {"clip": 0},
    "patience counts validations: give validate too": {"patience": 3},
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_in_words(message):
    model, data = make()
    with pytest.raises(ValueError, match=re.escape(message)):
        training.train(model, plain_loss, data, **({"steps": 1} | ERRORS[message]))


@pytest.mark.parametrize(
    "data", [(), (torch.ones(0, 3),), (torch.ones(3, 1), torch.ones(4, 1))], ids=str
)
def test_data_must_agree(data):
    model, _ = make()
    with pytest.raises(ValueError, match="data must be tensors that agree in their first axis"):
        training.train(model, plain_loss, data, steps=1)
    with pytest.raises(ValueError, match="data must be tensors that agree in their first axis"):
        training.mean_loss(model, plain_loss, data)


def test_rates_count_from_one():
    with pytest.raises(ValueError, match="step and warm_up count from 1; got 0 and 5"):
        training.warmed_up_rate(0, peak=1.0, warm_up=5)


def test_progress_is_shown_only_where_asked_for(capsys):
    model, data = make()
    training.train(model, plain_loss, data, steps=2)
    assert capsys.readouterr() == ("", "")
    training.train(model, plain_loss, data, steps=2, progress=True)
    assert "0/2" in capsys.readouterr().err
