"""Training: one loop that warms up, clips, validates, stops early, and survives being killed.

A run is a function of its arguments. The order of the examples follows from the seed and the step
alone, and a checkpoint holds everything else that the next step depends on, so that a run that was
interrupted and resumed ends with the same bits as one that was not. (It does so on one kind of
processor with one number of threads: a sum in another order ends in other bits.)
"""

import contextlib
import copy
import math
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm


@dataclass
class History:
    """What happened in a run so far.

    Attributes
    ----------
    losses : list of float
        The loss of each step's batch, before the step.
    validations : list of (int, float)
        After how many steps the model was validated, and its validation loss.
    best_step : int
        After how many steps the validation loss was lowest; 0 without a validation.
    """

    losses: list[float] = field(default_factory=list)
    validations: list[tuple[int, float]] = field(default_factory=list)
    best_step: int = 0


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within this context the model is in evaluation mode and no gradient is recorded.

    Afterwards each of its modules is in the mode in which it was before.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def warmed_up_rate(step: int, *, peak: float, warm_up: int) -> float:
    """The learning rate of a step: a straight line up to the peak, then an inverse square root.

    Parameters
    ----------
    step : int
        The first step is 1.
    peak : float
        The highest rate. The paper's formula has it at `(d_model * warm_up) ** -0.5`.
    warm_up : int
        The step at which the rate is highest.

    References
    ----------
    Vaswani et al. (2017), "Attention Is All You Need", NeurIPS, section 5.3, equation 3.
    """
    if step < 1 or warm_up < 1:
        raise ValueError(f"step and warm_up count from 1; got {step} and {warm_up}")
    return peak * min(step / warm_up, math.sqrt(warm_up / step))


def batch_indices(step: int, *, n: int, batch_size: int, seed: int) -> Tensor:
    """Which examples a step sees, a function of the seed and the step alone.

    Each epoch goes through all n examples once, in an order of its own; its last batch may be
    smaller.

    Parameters
    ----------
    step : int
        The first step is 1.
    n : int
        How many examples there are.
    batch_size, seed : int

    Returns
    -------
    int64 tensor, shape (batch_size,) or less
    """
    epoch, batch = divmod(step - 1, math.ceil(n / batch_size))
    order = torch.from_numpy(np.random.default_rng((seed, epoch)).permutation(n))  # (n,)
    return order[batch * batch_size : (batch + 1) * batch_size]


def mean_loss(
    model: nn.Module,
    loss: Callable[..., Tensor],
    data: Sequence[Tensor],
    *,
    batch_size: int = 256,
) -> float:
    """The loss of the model on data, in evaluation mode, batch by batch.

    A batch counts by its number of examples. Where the loss is itself a mean over the tokens of a
    batch and examples differ in length, that is close to the mean over all tokens, not equal to it.

    Parameters
    ----------
    model : module
    loss : function (model, *batch) -> scalar tensor, a mean over the batch
    data : tensors that agree in their first axis, the examples
    batch_size : int

    Returns
    -------
    float
    """
    n = _examples(data)
    total = 0.0
    with evaluating(model):
        for start in range(0, n, batch_size):
            batch = [tensor[start : start + batch_size] for tensor in data]
            total += loss(model, *batch).item() * len(batch[0])
    return total / n


def train(
    model: nn.Module,
    loss: Callable[..., Tensor],
    data: Sequence[Tensor],
    *,
    steps: int,
    batch_size: int = 64,
    peak: float = 1e-3,
    warm_up: int = 100,
    schedule: Callable[..., float] = warmed_up_rate,
    weight_decay: float = 0.01,
    clip: float = 1.0,
    validate: Callable[[nn.Module], float] | None = None,
    validate_every: int = 100,
    patience: int | None = None,
    checkpoint: str | os.PathLike | None = None,
    checkpoint_every: int = 100,
    seed: int = 0,
    progress: bool = False,
    should_stop: Callable[[], bool] | None = None,
) -> History:
    """Train a model in place with AdamW; where it is validated, keep the best parameters.

    Parameters
    ----------
    model : module
    loss : function (model, *batch) -> scalar tensor
    data : tensors that agree in their first axis, the examples
    steps : int
        After how many steps to stop, those before an interruption included.
    batch_size : int
    peak, warm_up : float, int
        The highest learning rate and its step, as in `warmed_up_rate`.
    schedule : function (step, *, peak, warm_up) -> learning rate
        The first step is 1.
    weight_decay : float
        For matrices; biases and the gains of a layer normalization do not decay.
    clip : float
        A longer gradient is shortened to this length.
    validate : function model -> float, optional
        Called in evaluation mode after every `validate_every` steps, lower is better. At the end
        the model has the parameters with which it was best.
    patience : int, optional
        Stop after so many validations in a row that are no better than the best.
    checkpoint : path, optional
        Where the state of the run is kept, written every `checkpoint_every` steps and at the end.
        If the file is there, the run goes on from it.
    seed : int
        Decides the order of the examples, and nothing else: seed torch yourself, before you make
        the model.
    progress : bool
        Show a progress bar, with the last batch's loss and the last validation loss.
    should_stop : function () -> bool, optional
        Asked before each step. Where it says yes, the run ends as if it had all its steps, and a
        checkpoint is written, from which the same call goes on without making a step twice.

    Returns
    -------
    History
        Losses of all steps, those before an interruption included.

    Raises
    ------
    ValueError
        Where the data are empty or do not agree in length, a number is out of range, or the
        checkpoint belongs to a run with other settings.
    FloatingPointError
        Where a loss is not finite; no step was made with it.

    References
    ----------
    Loshchilov and Hutter (2019), "Decoupled Weight Decay Regularization", ICLR.
    Pascanu, Mikolov and Bengio (2013), "On the Difficulty of Training Recurrent Neural Networks",
    ICML, section 3.2, for clipping.
    """
    settings = {
        "examples": _examples(data),
        "batch_size": batch_size,
        "peak": peak,
        "warm_up": warm_up,
        "schedule": schedule.__name__,
        "weight_decay": weight_decay,
        "clip": clip,
        "validate_every": validate_every,
        "patience": patience,
        "seed": seed,
    }
    _check_settings(steps, checkpoint_every, settings, validates=validate is not None)
    run = _Run(model, weight_decay=weight_decay)
    if checkpoint is not None and Path(checkpoint).exists():
        run.load(Path(checkpoint), settings)

    bar = tqdm(total=steps, initial=run.step, disable=not progress, leave=False, unit="step")
    while run.step < steps and not run.patience_is_over(patience):
        if should_stop is not None and should_stop():
            break
        rate = schedule(run.step + 1, peak=peak, warm_up=warm_up)
        _take_step(run, loss, data, settings, rate)
        if validate is not None and run.step % validate_every == 0:
            run.note_validation(validate)
        if checkpoint is not None and run.step % checkpoint_every == 0:
            run.save(Path(checkpoint), settings)
        bar.set_postfix(run.latest(), refresh=False)
        bar.update()
    bar.close()

    if checkpoint is not None and run.step % checkpoint_every != 0:
        run.save(Path(checkpoint), settings)
    if run.best_parameters is not None:
        model.load_state_dict(run.best_parameters)
    return run.history


class _Run:
    """All that the next step depends on: in a checkpoint, nothing may be missing."""

    def __init__(self, model: nn.Module, *, weight_decay: float) -> None:
        self.model = model
        self.optimizer = torch.optim.AdamW(_parameter_groups(model, weight_decay))
        self.history = History()
        self.best_parameters = None

    @property
    def step(self) -> int:
        return len(self.history.losses)

    @property
    def best(self) -> float:
        return min((loss for _, loss in self.history.validations), default=math.inf)

    def note_validation(self, validate: Callable[[nn.Module], float]) -> None:
        """Validate, and keep a copy of the parameters if they are better than any before."""
        with evaluating(self.model):
            validation = float(validate(self.model))
        if not math.isfinite(validation):
            raise FloatingPointError(f"the validation loss after step {self.step} is {validation}")
        if validation < self.best:
            self.history.best_step = self.step
            self.best_parameters = copy.deepcopy(self.model.state_dict())
        self.history.validations.append((self.step, validation))

    def latest(self) -> dict[str, str]:
        """The last loss and the last validation loss, as a progress bar shows them."""
        shown = {"loss": self.history.losses[-1]}
        if self.history.validations:
            shown["validation"] = self.history.validations[-1][1]
        return {name: f"{loss:.3f}" for name, loss in shown.items()}

    def patience_is_over(self, patience: int | None) -> bool:
        since = [step for step, _ in self.history.validations if step > self.history.best_step]
        return patience is not None and len(since) >= patience

    def save(self, path: Path, settings: dict) -> None:
        state = {
            "settings": settings,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generators": _generator_states(),
            "history": vars(self.history),
            "best_parameters": self.best_parameters,
        }
        # Written beside it, then renamed: whoever is killed while writing leaves the old one whole.
        partial = path.with_name(path.name + ".partial")
        with open(partial, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)

    def load(self, path: Path, settings: dict) -> None:
        state = torch.load(path, weights_only=True)
        for name, wanted in settings.items():
            if state["settings"][name] != wanted:
                raise ValueError(
                    f"the checkpoint {path.name} belongs to a run with {name} = "
                    f"{state['settings'][name]}; wanted {wanted}. Remove it to start anew"
                )
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        _restore_generators(state["generators"])
        self.history = History(**state["history"])
        self.best_parameters = state["best_parameters"]


def _take_step(
    run: _Run,
    loss: Callable[..., Tensor],
    data: Sequence[Tensor],
    settings: dict,
    rate: float,
) -> None:
    """One batch: loss, gradient, clipping, and a step of the optimiser."""
    number = run.step + 1
    indices = batch_indices(
        number,
        n=settings["examples"],
        batch_size=settings["batch_size"],
        seed=settings["seed"],
    )
    value = loss(run.model, *(tensor[indices.to(tensor.device)] for tensor in data))  # ()
    if not torch.isfinite(value):
        raise FloatingPointError(f"the loss of step {number} is {value.item()}")
    run.optimizer.zero_grad()
    value.backward()
    nn.utils.clip_grad_norm_(run.model.parameters(), settings["clip"])
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    run.optimizer.step()
    run.history.losses.append(value.item())


def _parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def _generator_states() -> dict:
    """The states of the generators that a model or a loss may draw from without being told."""
    _, keys, *rest = np.random.get_state()  # noqa: NPY002  (kept because others may use it)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (torch.from_numpy(keys.astype(np.int64)), *rest),
        "python": random.getstate(),
    }


def _restore_generators(states: dict) -> None:
    torch.set_rng_state(states["torch"])
    if states["cuda"]:
        torch.cuda.set_rng_state_all(states["cuda"])
    keys, *rest = states["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), *rest))  # noqa: NPY002
    random.setstate(states["python"])


def _examples(data: Sequence[Tensor]) -> int:
    """How many examples there are, once all tensors agree."""
    lengths = {len(tensor) for tensor in data}
    if len(lengths) != 1 or lengths == {0}:
        shapes = [tuple(tensor.shape) for tensor in data]
        raise ValueError(
            "data must be tensors that agree in their first axis, with one example or more; "
            f"got shapes {shapes}"
        )
    return lengths.pop()


def _check_settings(steps: int, checkpoint_every: int, settings: dict, *, validates: bool) -> None:
    counts = {"steps": steps, "checkpoint_every": checkpoint_every, **settings}
    for name in ("steps", "checkpoint_every", "batch_size", "warm_up", "validate_every"):
        if counts[name] < 1:
            raise ValueError(f"{name} must be at least 1; got {counts[name]}")
    for name in ("peak", "clip"):
        if not counts[name] > 0:
            raise ValueError(f"{name} must be above 0; got {counts[name]}")
    if settings["patience"] is not None and not validates:
        raise ValueError("patience counts validations: give validate too")
