"""Medicine: attention over a patient's features, against logistic regression, trees and an MLP.

Five folds, three times: every patient is diagnosed three times by models that have not seen them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from attn_tutorial.applications.measuring import Clock, n_parameters
from attn_tutorial.applications.medicine.baselines import fit_baseline, with_conditional_mean
from attn_tutorial.applications.medicine.data import (
    Features,
    Fold,
    Logits,
    Patients,
    area_under_roc,
    calibration_error_by_chance,
    difference,
    folds,
    hide,
    load_patients,
    log_losses,
    reliability,
    scores,
    temperature,
)
from attn_tutorial.applications.medicine.importance import (
    agreement,
    coefficients,
    hide_by,
    permutation_importance,
    profile,
    size_features,
    stability,
)
from attn_tutorial.applications.medicine.models import (
    Scaled,
    attention_to_features,
    fit_network,
    made_equal,
)
from attn_tutorial.applications.results import Results, Role, System, versions

SEEDS = (0, 1, 2)
SHARES = (0.0, 0.3, 0.5, 0.7, 0.9)

Fit = Callable[[Patients, Fold, int], Scaled]
OverSeeds = list[list[Scaled]]  # by seed, then by fold

TRAINED: dict[str, tuple[Role, Fit]] = {
    "FT-Transformer": ("attention", lambda *which: fit_network("FT-Transformer", *which)),
    "FT-Transformer, trained with gaps": (
        "attention",
        lambda *which: fit_network("FT-Transformer", *which, gaps=True),
    ),
    "MLP": ("rival", lambda *which: fit_network("MLP", *which)),
    "MLP, trained with gaps": ("rival", lambda *which: fit_network("MLP", *which, gaps=True)),
    "logistic regression": (
        "baseline",
        lambda *which: fit_baseline("logistic regression", *which),
    ),
    "logistic regression, trained with gaps": (
        "baseline",
        lambda *which: fit_baseline("logistic regression", *which, gaps=True),
    ),
    "boosting": ("baseline", lambda *which: fit_baseline("boosting", *which)),
    "boosting, trained with gaps": (
        "baseline",
        lambda *which: fit_baseline("boosting", *which, gaps=True),
    ),
    "random forest": ("baseline", lambda *which: fit_baseline("random forest", *which)),
    "one feature": ("baseline", lambda *which: fit_baseline("one feature", *which)),
    "equal weights, trained so": (
        "ablation",
        lambda *which: fit_network("FT-Transformer", *which, equal_weights=True),
    ),
    "equal weights, trained with gaps": (
        "ablation",
        lambda *which: fit_network("FT-Transformer", *which, gaps=True, equal_weights=True),
    ),
}
COMPARED = ("logistic regression", "MLP", "boosting", "random forest", "equal weights, trained so")
FILLED = "logistic regression, conditional mean"
WITH_GAPS = (
    "FT-Transformer",
    "FT-Transformer, trained with gaps",
    "equal weights, trained with gaps",
    "MLP, trained with gaps",
    "logistic regression",
    "logistic regression, trained with gaps",
    FILLED,
    "boosting, trained with gaps",
)


# --- predictions -----------------------------------------------------------------------------


def out_of_fold(fitted: Sequence[Scaled], parts: Sequence[Fold], features: Features) -> Logits:
    """The logit of every patient from the one model that has not seen them.

    Parameters
    ----------
    fitted : 5 Scaled
        One for each fold.
    parts : 5 Fold
    features : float array, shape (n, n_features)
        Of all patients; NaN where missing.

    Returns
    -------
    float64 array, shape (n,)

    Raises
    ------
    ValueError
        Where the test parts do not hold every patient once.
    """
    if len(fitted) != len(parts):
        raise ValueError(f"fitted and parts must be equally many; got {len(fitted)}, {len(parts)}")
    tested = np.sort(np.concatenate([fold.test for fold in parts]))
    if not np.array_equal(tested, np.arange(len(features))):
        raise ValueError("the test parts must hold every patient once")
    logits = np.empty(len(features))
    for one, fold in zip(fitted, parts, strict=True):
        logits[fold.test] = one(features[fold.test])
    return logits


def temperatures(
    fitted: Sequence[Scaled], parts: Sequence[Fold], patients: Patients
) -> Float[np.ndarray, " n"]:
    """For every patient the temperature that the validation part of their fold asks for."""
    found = np.empty(len(patients.malignant))
    for one, fold in zip(fitted, parts, strict=True):
        known = fold.validation
        found[fold.test] = temperature(patients.malignant[known], one(patients.features[known]))
    return found


# --- the whole measurement -------------------------------------------------------------------


def measure() -> Results:
    """Train every system on every fold of three shufflings; score each on the patients left out."""
    patients = load_patients()
    parts = [folds(patients.malignant, seed) for seed in SEEDS]
    systems, fitted = {}, {}
    for name, (role, fit) in TRAINED.items():
        clock = Clock()
        with clock.running():
            fitted[name] = [
                [fit(patients, fold, seed) for fold in parts[number]]
                for number, seed in enumerate(SEEDS)
            ]
        systems[name] = _system(role, fitted[name], parts, patients, clock.seconds / len(SEEDS))
    after = "weights made equal after training"
    fitted[after] = [[made_equal(one) for one in five] for five in fitted["FT-Transformer"]]
    systems[after] = _system("ablation", fitted[after], parts, patients, None)
    fitted[FILLED] = [
        [
            with_conditional_mean(one, patients, fold)
            for one, fold in zip(five, of_seed, strict=True)
        ]
        for five, of_seed in zip(fitted["logistic regression"], parts, strict=True)
    ]
    logits = {name: _logits(all_fitted, parts, patients) for name, all_fitted in fitted.items()}
    first = fitted["FT-Transformer"][0]
    return Results(
        task="Tell malignant from benign tumours by 30 measurements",
        data="Breast cancer Wisconsin (diagnostic), 569 patients, from scikit-learn",
        origin="real",
        split="Five folds, three times; each patient is one row",
        metric="AUROC",
        higher_is_better=True,
        n_training=len(parts[0][0].fitting),
        n_test=len(patients.malignant),
        seeds=list(SEEDS),
        systems=systems,
        libraries=versions("scikit-learn", "torch"),
        more={
            "differences": _differences(patients, logits),
            "calibration": _calibration(patients, logits),
            "missing": _missing(patients, parts, fitted),
            "importance": _importance(patients, parts, fitted),
            "hiding": _hiding(patients, parts, fitted["FT-Transformer, trained with gaps"]),
            "first folds": [
                scores(patients.malignant[fold.test], one(patients.features[fold.test]))
                for one, fold in zip(first, parts[0], strict=True)
            ],
        },
    )


def _logits(
    all_fitted: OverSeeds, parts: list[list[Fold]], patients: Patients
) -> Float[np.ndarray, "n_seeds n"]:
    return np.array(
        [
            out_of_fold(five, of_seed, patients.features)
            for five, of_seed in zip(all_fitted, parts, strict=True)
        ]
    )


def _system(
    role: Role,
    all_fitted: OverSeeds,
    parts: list[list[Fold]],
    patients: Patients,
    seconds: float | None,
) -> System:
    found = []
    for five, of_seed in zip(all_fitted, parts, strict=True):
        logits = out_of_fold(five, of_seed, patients.features)
        heat = temperatures(five, of_seed, patients)
        scaled = scores(patients.malignant, logits / heat)
        found.append(
            scores(patients.malignant, logits)
            | {
                "log loss, scaled": scaled["log loss"],
                "ECE, scaled": scaled["ECE"],
                "temperature": float(heat.mean()),
            }
        )
    inner = all_fitted[0][0].inner
    return System(
        role=role,
        scores={metric: [score[metric] for score in found] for metric in found[0]},
        n_parameters=n_parameters(inner) if hasattr(inner, "parameters") else None,
        seconds=seconds,
    )


def _differences(patients: Patients, logits: dict[str, np.ndarray]) -> dict[str, dict]:
    """The Transformer's scores less those of others, with intervals."""
    measured = {
        "AUROC": area_under_roc,
        "accuracy": lambda malignant, one: float(((one > 0) == malignant).mean()),
        "log loss": lambda malignant, one: float(log_losses(malignant, one).mean()),
    }
    return {
        other: {
            metric: list(
                difference(patients.malignant, logits["FT-Transformer"], logits[other], score)
            )
            for metric, score in measured.items()
        }
        for other in COMPARED
    }


def _calibration(patients: Patients, logits: dict[str, np.ndarray]) -> dict[str, dict]:
    """Bins over all seeds, and the calibration error of a forecaster without any."""
    found = {}
    for name in ("FT-Transformer", "MLP", "logistic regression", "boosting", "random forest"):
        labels = np.tile(patients.malignant, len(SEEDS))
        bins = [array.tolist() for array in reliability(labels, logits[name].ravel())]
        found[name] = dict(zip(("counts", "said", "true"), bins, strict=True))
        found[name]["by chance"] = float(
            np.mean([calibration_error_by_chance(one, seed=0) for one in logits[name]])
        )
    return found


def _missing(
    patients: Patients, parts: list[list[Fold]], fitted: dict[str, OverSeeds]
) -> dict[str, dict]:
    """Scores at growing shares of hidden features: by metric, system, share and seed."""
    found = {metric: {name: [] for name in WITH_GAPS} for metric in ("accuracy", "log loss")}
    for share in SHARES:
        seen = [hide(patients.features, share, 100 + seed) for seed in SEEDS]
        for name in WITH_GAPS:
            of_seeds = [
                scores(patients.malignant, out_of_fold(*one))
                for one in zip(fitted[name], parts, seen, strict=True)
            ]
            for metric, curves in found.items():
                curves[name].append([score[metric] for score in of_seeds])
    return {"shares": list(SHARES), **found}


def _importance(
    patients: Patients, parts: list[list[Fold]], fitted: dict[str, OverSeeds]
) -> dict[str, object]:
    """What attention, permutations and coefficients say of the features, and how they agree."""
    singles = [[number] for number in range(len(patients.names))]
    size = size_features(patients.names)
    found = {"attention": [], "permuted": [], "permuted, regression": [], "coefficients": []}
    groups = {"one at a time": [], "all of size": [], "one at a time, regression": []}
    groups["all of size, regression"] = []
    for number, of_seed in enumerate(parts):
        for k, fold in enumerate(of_seed):
            features, labels = patients.features[fold.test], patients.malignant[fold.test]
            network = fitted["FT-Transformer"][number][k]
            linear = fitted["logistic regression"][number][k]
            found["attention"].append(profile(network, features))
            found["coefficients"].append(np.abs(coefficients(linear)))
            for one, suffix in ((network, ""), (linear, ", regression")):
                grown = permutation_importance(one, features, labels, [*singles, size])
                found[f"permuted{suffix}"].append(grown[:-1])
                groups[f"one at a time{suffix}"].append(float(grown[size].sum()))
                groups[f"all of size{suffix}"].append(float(grown[-1]))
    arrays = {name: np.array(rows) for name, rows in found.items()}  # each (15, 30)
    fold, first = parts[0][0], fitted["FT-Transformer"][0][0]
    again = [first, *(fit_network("FT-Transformer", patients, fold, seed) for seed in (100, 101))]
    test = patients.features[fold.test]
    return {
        "means": {name: array.mean(axis=0).tolist() for name, array in arrays.items()},
        "stability": {name: stability(array) for name, array in arrays.items()},
        "agreement": {
            "attention, permuted": agreement(arrays["attention"], arrays["permuted"]),
            "attention, coefficients": agreement(arrays["attention"], arrays["coefficients"]),
            "permuted, coefficients": agreement(arrays["permuted"], arrays["coefficients"]),
            "coefficients, permuted regression": agreement(
                arrays["coefficients"], arrays["permuted, regression"]
            ),
        },
        "same patients": {
            "attention": stability(np.array([profile(one, test) for one in again])),
            "logits": float(np.corrcoef([one(test) for one in again])[np.triu_indices(3, 1)].min()),
        },
        "groups": {name: float(np.mean(values)) for name, values in groups.items()},
    }


def _hiding(
    patients: Patients, parts: list[list[Fold]], all_fitted: OverSeeds
) -> dict[str, list[float]]:
    """The log loss, by seed, where ten features are hidden: by attention, or at random."""
    found = {"nothing": [], "most attended": [], "least attended": [], "random": []}
    for seed, five, of_seed in zip(SEEDS, all_fitted, parts, strict=True):
        shown = np.empty_like(patients.features)
        for one, fold in zip(five, of_seed, strict=True):
            shown[fold.test] = attention_to_features(
                one.inner, one.scale(patients.features[fold.test])
            )
        by_chance = np.random.default_rng(seed).random(shown.shape)
        seen = {
            "nothing": patients.features,
            "most attended": hide_by(shown, patients.features),
            "least attended": hide_by(-shown, patients.features),
            "random": hide_by(by_chance, patients.features),
        }
        for name, features in seen.items():
            losses = log_losses(patients.malignant, out_of_fold(five, of_seed, features))
            found[name].append(float(losses.mean()))
    return found
