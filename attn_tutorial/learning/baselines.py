"""Knowledge tracing without attention: the share of each item, hidden Markov models, logistic
regression on counts, and the scores by which all are judged.

References
----------
Corbett and Anderson (1995), "Knowledge Tracing: Modeling the Acquisition of Procedural Knowledge".
Pavlik, Cen and Koedinger (2009), "Performance Factors Analysis: A New Alternative to Knowledge
Tracing".
Choffin et al. (2019), "DAS3H: Modeling Student Learning and Forgetting for Optimally Scheduling
Distributed Practice of Skills".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from attn_tutorial.learning.simulator import Log

WINDOWS = (1 / 24, 1.0, 7.0, 30.0, np.inf)  # days
STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3)  # the inverse of the penalty of logistic regression


def scores(
    probability: Float[np.ndarray, "n_learners length"], right: Bool[np.ndarray, ...]
) -> dict[str, float]:
    """Area under the ROC curve, and the mean log loss in natural units."""
    return {
        "AUC": float(roc_auc_score(right.ravel(), probability.ravel())),
        "log loss": float(log_loss(right.ravel(), probability.ravel())),
    }


def item_shares(training: Log, log: Log, n_items: int) -> Float[np.ndarray, "n_learners length"]:
    """The share of right answers to each item in training, with one right and one wrong added."""
    right = np.bincount(training.items.ravel(), training.right.ravel(), minlength=n_items)
    asked = np.bincount(training.items.ravel(), minlength=n_items)
    return ((right + 1) / (asked + 2))[log.items]


# --- Bayesian knowledge tracing ----------------------------------------------------------------


@dataclass(frozen=True)
class TwoStates:
    """A skill is known or not known; four numbers for each.

    Attributes
    ----------
    known, learn, guess, slip : float array, shape (n_skills,)
        The probability to know it before the first question; to have learned it after a question;
        to be right without knowing it, and wrong knowing it. What is known is never forgotten.
    """

    known: Float[np.ndarray, " n_skills"]
    learn: Float[np.ndarray, " n_skills"]
    guess: Float[np.ndarray, " n_skills"]
    slip: Float[np.ndarray, " n_skills"]

    def right(self, skill: np.ndarray | slice = slice(None)) -> Float[np.ndarray, "n 2"]:
        """The probability of a right answer without and with knowing it."""
        return np.stack([self.guess[skill], 1 - self.slip[skill]], axis=-1)

    def forward(
        self, skills: Int[np.ndarray, "n length"], right: Bool[np.ndarray, "n length"]
    ) -> Float[np.ndarray, "n length"]:
        """The probability of a right answer to each question, given the answers before it.

        By the exact forward algorithm; a learner's skills do not know of one another.
        """
        n, length = skills.shape
        knows = np.repeat(self.known[None], n, axis=0)  # (n, n_skills)
        rows, found = np.arange(n), np.empty((n, length))
        for step in range(length):
            skill = skills[:, step]
            before = knows[rows, skill]
            said = self.right(skill)  # (n, 2)
            found[:, step] = (1 - before) * said[:, 0] + before * said[:, 1]
            likely = np.where(right[:, step, None], said, 1 - said)
            after = before * likely[:, 1]
            after = after / (after + (1 - before) * likely[:, 0])
            knows[rows, skill] = after + (1 - after) * self.learn[skill]
        return found


def sequences(log: Log, skills: Int[np.ndarray, "n length"]) -> tuple[np.ndarray, ...]:
    """The answers of each learner to each skill, one row for each pair, filled up at the end.

    Returns
    -------
    skill : int array, shape (n_rows,)
    right, there : bool array, shape (n_rows, longest)
        The answers, and which of the places hold one.
    """
    n, length = skills.shape
    pair = np.arange(n)[:, None] * (skills.max() + 1) + skills
    order = np.argsort(pair.ravel(), kind="stable")  # keeps the order in time
    pairs, begins, counts = np.unique(pair.ravel()[order], return_index=True, return_counts=True)
    row = np.repeat(np.arange(len(pairs)), counts)
    place = np.arange(n * length) - np.repeat(begins, counts)
    right = np.zeros((len(pairs), counts.max()), dtype=bool)
    there = np.zeros_like(right)
    right[row, place] = log.right.ravel()[order]
    there[row, place] = True
    return pairs % (skills.max() + 1), right, there


def fit_two_states(
    log: Log, skills: Int[np.ndarray, "n length"], n_skills: int, *, rounds: int = 40
) -> tuple[TwoStates, list[float]]:
    """Expectation maximisation, for all skills at once.

    Returns
    -------
    model : TwoStates
    likelihoods : list of float
        The log-likelihood before each round; it never falls.
    """
    skill, right, there = sequences(log, skills)
    ones = np.ones(n_skills)
    model = TwoStates(0.2 * ones, 0.1 * ones, 0.3 * ones, 0.15 * ones)
    likelihoods = []
    for _ in range(rounds):
        likelihood, expected = _expect(model, skill, right, there)
        likelihoods.append(likelihood)
        summed = {
            name: np.bincount(skill, values, minlength=n_skills)
            for name, values in expected.items()
        }
        model = TwoStates(
            known=summed["first known"] / np.maximum(summed["rows"], 1e-9),
            learn=summed["learned"] / np.maximum(summed["could learn"], 1e-9),
            guess=summed["unknown right"] / np.maximum(summed["unknown"], 1e-9),
            slip=summed["known wrong"] / np.maximum(summed["known"], 1e-9),
        )
    return model, likelihoods


def _expect(
    model: TwoStates, skill: np.ndarray, right: np.ndarray, there: np.ndarray
) -> tuple[float, dict[str, np.ndarray]]:
    """Forwards and backwards over all rows; the log-likelihood, and expected counts by row."""
    n, length = right.shape
    said = model.right(skill)[:, None, :]  # (n, 1, 2)
    likely = np.where(right[..., None], said, 1 - said)  # (n, length, 2)
    likely = np.where(there[..., None], likely, 1.0)
    learn = model.learn[skill]
    forward = np.empty((n, length, 2))  # of the state, given the answers so far
    scale = np.empty((n, length))
    state = np.stack([1 - model.known[skill], model.known[skill]], axis=1)
    for step in range(length):
        state = state * likely[:, step]
        scale[:, step] = state.sum(axis=1)
        state = forward[:, step] = state / scale[:, step, None]
        moved = state[:, 0] * learn
        state = np.stack([state[:, 0] - moved, state[:, 1] + moved], axis=1)
    backward = np.ones((n, length, 2))
    for step in range(length - 2, -1, -1):
        after = likely[:, step + 1] * backward[:, step + 1] / scale[:, step + 1, None]
        backward[:, step, 0] = (1 - learn) * after[:, 0] + learn * after[:, 1]
        backward[:, step, 1] = after[:, 1]
    posterior = forward * backward  # (n, length, 2)
    after = likely[:, 1:] * backward[:, 1:] / scale[:, 1:, None]
    learned = forward[:, :-1, 0] * learn[:, None] * after[..., 1]
    both = there[:, 1:]  # a move counts only between two answers
    unknown, known = posterior[..., 0] * there, posterior[..., 1] * there
    return float(np.log(scale).sum()), {
        "rows": np.ones(n),
        "first known": posterior[:, 0, 1],
        "learned": (learned * both).sum(axis=1),
        "could learn": (posterior[:, :-1, 0] * both).sum(axis=1),
        "unknown": unknown.sum(axis=1),
        "unknown right": (unknown * right).sum(axis=1),
        "known": known.sum(axis=1),
        "known wrong": (known * ~right).sum(axis=1),
    }


# --- logistic regression on counts ---------------------------------------------------------------


def counts(
    asked: Int[np.ndarray, "n n_q"],
    asked_days: Float[np.ndarray, "n n_q"],
    answered: Int[np.ndarray, "n n_k"],
    days: Float[np.ndarray, "n n_k"],
    right: Bool[np.ndarray, "n n_k"],
    earlier: Bool[np.ndarray, "n_q n_k"],
    windows: tuple[float, ...],
) -> Float[np.ndarray, "n n_q n_counts"]:
    """Logarithms of 1 + right and 1 + wrong answers to the same label, in each window of days.

    A label is a skill, or 0 for all that a learner did.
    """
    same = (asked[:, :, None] == answered[:, None, :]) & earlier  # (n, n_q, n_k)
    since = asked_days[:, :, None] - days[:, None, :]
    found = []
    for window in windows:
        within = same & (since <= window)
        found.append((within & right[:, None]).sum(axis=-1))
        found.append((within & ~right[:, None]).sum(axis=-1))
    return np.log1p(np.stack(found, axis=-1))


@dataclass
class Regression:
    """Logistic regression on items, skills, and counts of earlier answers.

    The counts of the skill that is asked have coefficients for each skill; those of everything that
    the learner did, by which it can tell able learners, are shared.

    Parameters
    ----------
    n_items, n_skills : int
        `n_skills` of 0 hides the skills: the counts are then those of the item itself.
    timed : bool
        Whether counts are taken in windows of time; otherwise since the beginning.
    """

    n_items: int
    n_skills: int
    timed: bool

    def features(self, asked: Log, answered: Log, earlier: np.ndarray) -> sparse.csr_array:
        """One row for each question, learner by learner."""
        windows = WINDOWS if self.timed else WINDOWS[-1:]
        n_labels = self.n_skills or self.n_items
        label = asked.skills if self.n_skills else asked.items
        done = answered.skills if self.n_skills else answered.items
        told = answered.days, answered.right, earlier, windows
        own = counts(label, asked.days, done, *told)
        all_done = counts(0 * label, asked.days, 0 * done, *told)
        own, all_done = (x.reshape(-1, x.shape[-1]) for x in (own, all_done))
        which = one_hot(label.ravel(), n_labels)
        by_label = [which.multiply(column[:, None]) for column in own.T]
        parts = [one_hot(asked.items.ravel(), self.n_items), which, all_done, own, *by_label]
        return sparse.csr_array(sparse.hstack(parts))

    def fit(self, training: Log, validation: Log) -> Regression:
        """Fit with several penalties, and keep the one that the validation part likes best."""
        inside, judged = self._of(training), self._of(validation)
        self.strength, self.model = best_penalty(inside, training.right, judged, validation.right)
        return self

    def probabilities(self, log: Log) -> Float[np.ndarray, "n_learners length"]:
        """How probable a right answer is to each question, from the answers before it."""
        return self.model.predict_proba(self._of(log))[:, 1].reshape(log.items.shape)

    def _of(self, log: Log) -> sparse.csr_array:
        length = log.items.shape[1]
        return self.features(log, log, np.tri(length, k=-1, dtype=bool))


def one_hot(labels: Int[np.ndarray, " n"], n_labels: int) -> sparse.csr_array:
    """A one in each row, in the column of its label."""
    return sparse.csr_array(
        (np.ones(len(labels)), (np.arange(len(labels)), labels)), (len(labels), n_labels)
    )


@dataclass
class Pairs:
    """Logistic regression in which every item has coefficients for every item answered before.

    It finds out which items belong together without being told the skills. What was answered d days
    ago counts with weight 1 and, a second time, with weight 2^(-d / half_life).
    """

    n_items: int
    half_life: float = 3.0

    def features(self, log: Log) -> sparse.csr_array:
        """One row for each question, learner by learner."""
        n, length = log.items.shape
        earlier = np.tri(length, k=-1, dtype=bool)
        since = np.maximum(log.days[:, :, None] - log.days[:, None, :], 0)
        learner, asked, answered = np.nonzero(np.broadcast_to(earlier, since.shape))
        row = learner * length + asked
        pair = log.items[learner, asked] * self.n_items + log.items[learner, answered]
        pair = pair + self.n_items**2 * log.right[learner, answered]
        shape = n * length, 2 * self.n_items**2
        faded = 2 ** (-since[learner, asked, answered] / self.half_life)
        parts = [
            sparse.csr_array((values, (row, pair)), shape) for values in (np.ones(len(row)), faded)
        ]
        for part in parts:
            part.sum_duplicates()
            part.data = np.log1p(part.data)
        told = Regression(self.n_items, 0, timed=True).features(log, log, earlier)
        return sparse.csr_array(sparse.hstack([told, *parts]))

    def fit(self, training: Log, validation: Log) -> Pairs:
        """Fit with several penalties, and keep the one that the validation part likes best."""
        inside, judged = self.features(training), self.features(validation)
        self.strength, self.model = best_penalty(inside, training.right, judged, validation.right)
        return self

    def probabilities(self, log: Log) -> Float[np.ndarray, "n_learners length"]:
        """How probable a right answer is to each question, from the answers before it."""
        return self.model.predict_proba(self.features(log))[:, 1].reshape(log.items.shape)


def best_penalty(
    inside: sparse.csr_array,
    right: Bool[np.ndarray, ...],
    judged: sparse.csr_array,
    judged_right: Bool[np.ndarray, ...],
) -> tuple[float, LogisticRegression]:
    """Logistic regression with the penalty that a validation part likes best."""
    found = []
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, max_iter=1000).fit(inside, right.ravel())
        said = model.predict_proba(judged)[:, 1]
        found.append((log_loss(judged_right.ravel(), said), strength, model))
    _, strength, model = min(found, key=lambda one: one[0])
    return strength, model
