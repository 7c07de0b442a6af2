"""A diagnosis from thirty numbers: folds apart, gaps unseen, scores right, each broken caught."""

import copy

import numpy as np
import pytest
import torch
from scipy.special import expit
from sklearn import metrics
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression

from attn_tutorial.applications.medicine import baselines as medicine_baselines
from attn_tutorial.applications.medicine import data as medicine_data
from attn_tutorial.applications.medicine import experiment as medicine
from attn_tutorial.applications.medicine import importance as medicine_importance
from attn_tutorial.applications.medicine import models as medicine_models
from attn_tutorial.attribution import recording, uniform_weights
from package.zoo import Zoo, ZooTests, rewritten

PATIENTS = medicine_data.load_patients()
FOLDS = medicine_data.folds(PATIENTS.malignant, 0)
MODULES = {
    "data": medicine_data,
    "models": medicine_models,
    "baselines": medicine_baselines,
    "importance": medicine_importance,
    "fitting": medicine,
}

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def small(api, n_features=30):
    """An untrained Transformer with large weights, so that its attention is far from equal."""
    torch.manual_seed(0)
    model = api.models.FeatureTransformer(n_features, d_model=16, n_layers=2)
    with torch.no_grad():
        for layer in model.layers:
            layer.attention.query.weight *= 6
    return model.eval()


def fitted(api, inner):
    one = api.models.Scaled(PATIENTS.features[FOLDS[0].fitting])
    one.inner = inner
    return one


def some(n=40, seed=1):
    """Labels and logits that hold ties."""
    generator = np.random.default_rng(seed)
    labels = (generator.random(n) < 0.4).astype(int)
    return labels, np.round(2 * generator.normal(size=n) + labels, 1)


@check
def every_patient_is_tested_once_and_nothing_overlaps(api):
    for seed in (0, 1):
        parts = api.data.folds(PATIENTS.malignant, seed)
        tested = np.concatenate([fold.test for fold in parts])
        assert sorted(tested) == list(range(569))
        for fold in parts:
            together = np.concatenate(fold)
            assert len(set(together)) == len(together) == 569
            for part in fold:
                assert abs(PATIENTS.malignant[part].mean() - 212 / 569) < 0.01
    assert not np.array_equal(parts[0].test, FOLDS[0].test)


@check
def a_one_means_malignant(api):
    patients = api.data.load_patients()
    assert patients.features.shape == (569, 30)
    assert patients.malignant.sum() == 212
    radius = patients.features[:, patients.names.index("mean radius")]
    assert radius[patients.malignant == 1].mean() > radius[patients.malignant == 0].mean() + 3


@check
def each_patient_lacks_as_many_features_and_others(api):
    for share, n_hidden in ((0, 0), (0.5, 15), (0.99, 29)):
        hidden = api.data.hide(PATIENTS.features, share, 3)
        gone = np.isnan(hidden)
        assert (gone.sum(axis=1) == n_hidden).all()
        np.testing.assert_array_equal(hidden[~gone], PATIENTS.features[~gone])
    gone = np.isnan(api.data.hide(PATIENTS.features, 0.5, 3))
    assert not np.array_equal(gone[0], gone[1])
    assert np.abs(gone.mean(axis=0) - 0.5).max() < 0.1
    copies = np.isnan(api.data.with_gaps(PATIENTS.features, 4, 0)).reshape(4, 569, 30)
    np.testing.assert_array_equal(copies.sum(axis=2)[:, 0], [0, 9, 18, 27])


@check
def scores_are_those_of_scikit_learn(api):
    labels, logits = some()
    found = api.data.scores(labels, logits)
    probability = expit(logits)
    wanted = {
        "AUROC": metrics.roc_auc_score(labels, logits),
        "accuracy": metrics.accuracy_score(labels, probability > 0.5),
        "log loss": metrics.log_loss(labels, probability),
        "Brier": metrics.brier_score_loss(labels, probability),
    }
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value), name


@check
def sensitivity_by_trying_every_threshold(api):
    for seed in range(5):
        labels, logits = some(60, seed)
        best = max(
            (logits[labels == 1] > threshold).mean()
            for threshold in logits
            if (logits[labels == 0] <= threshold).mean() >= 0.8
        )
        assert api.data.sensitivity_at(labels, logits, 0.8) == pytest.approx(best)


@check
def calibration_error_bin_by_bin(api):
    labels, logits = some(200)
    error = 0.0
    for b in range(10):
        members = [i for i in range(200) if b / 10 <= expit(logits[i]) < (b + 1) / 10]
        if members:
            error += abs(sum(expit(logits[i]) - labels[i] for i in members)) / 200
    assert api.data.calibration_error(labels, logits) == pytest.approx(error)
    counts, _, _ = api.data.reliability(labels, logits)
    assert counts.sum() == 200


@check
def temperature_gives_back_what_made_logits_too_large(api):
    generator = np.random.default_rng(0)
    honest = 2 * generator.normal(size=20_000)
    labels = (generator.random(20_000) < expit(honest)).astype(int)
    assert api.data.temperature(labels, 3 * honest) == pytest.approx(3, rel=0.05)
    # A forecaster whose probabilities are true still has an error, by chance.
    few = honest[:500]
    assert 0.01 < api.data.calibration_error_by_chance(few, seed=0) < 0.06


@check
def differences_are_paired(api):
    labels, logits = some(100)
    both = np.stack([logits, logits[::-1]])

    def accuracy(labels, logits):
        return float(((logits > 0) == labels).mean())

    assert api.data.difference(labels, both, both, accuracy, draws=50) == (0, 0, 0)
    better = both + np.where(labels == 1, 1.0, -1.0)
    found, low, high = api.data.difference(labels, better, both, accuracy, draws=200)
    wanted = [accuracy(labels, a) - accuracy(labels, b) for a, b in zip(better, both, strict=True)]
    assert found == pytest.approx(np.mean(wanted))
    assert 0 < low < found < high


@check
def a_missing_feature_is_as_if_it_had_never_been(api):
    """The mask against a smaller model without their tokens, and the others in another order."""
    model, kept = small(api, 6), [2, 0, 5]
    smaller = copy.deepcopy(model)
    smaller.weight = torch.nn.Parameter(model.weight[kept])
    smaller.bias = torch.nn.Parameter(model.bias[kept])
    torch.manual_seed(2)
    features = torch.randn(4, 6)
    with_holes = torch.full_like(features, torch.nan)
    with_holes[:, kept] = features[:, kept]
    with torch.no_grad():
        torch.testing.assert_close(model(with_holes), smaller(features[:, kept]))


@check
def tokens_are_values_times_vectors(api):
    model = small(api, 3)
    features = torch.tensor([[2.0, -1.0, 0.0]])
    with torch.no_grad():
        tokens = model.tokens(features)[0]
        for j, value in enumerate((2.0, -1.0, 0.0)):
            torch.testing.assert_close(tokens[j], value * model.weight[j] + model.bias[j])


@check
def the_class_token_asks_and_features_answer(api):
    model = small(api)
    features = np.random.default_rng(0).normal(size=(5, 30))
    features[:, :3] = np.nan
    shown = api.models.attention_to_features(model, features)
    assert shown.shape == (5, 30)
    assert (shown[:, :3] == 0).all()
    with torch.no_grad(), recording(model) as record:
        model(torch.from_numpy(features).float())
    to_itself = record.weights[1][:, :, 0, 0].mean(dim=1).numpy()
    np.testing.assert_allclose(shown.sum(axis=1) + to_itself, 1, atol=1e-5)
    assert np.ptp(shown[:, 3:], axis=1).min() > 0.01


@check
def equal_weights_are_equal_and_taken_away_again(api):
    one = fitted(api, small(api))
    equal = api.models.made_equal(one)
    features = PATIENTS.features[:8]
    before = one(features)
    assert np.abs(equal(features) - before).max() > 1e-3
    np.testing.assert_array_equal(one(features), before)
    with uniform_weights(one.inner):
        np.testing.assert_allclose(equal(features), one(features), atol=1e-6)


@check
def a_gap_is_no_mean_for_the_mlp(api):
    torch.manual_seed(0)
    model = api.models.Perceptron(4).eval()
    gap, mean = torch.tensor([[1.0, torch.nan, 2.0, 0.5]]), torch.tensor([[1.0, 0.0, 2.0, 0.5]])
    with torch.no_grad():
        assert torch.isfinite(model(gap)).all()
        assert (model(gap) - model(mean)).abs() > 1e-4


@check
def nothing_of_the_test_part_reaches_the_fit(api):
    fold = FOLDS[0]
    changed = PATIENTS.features.copy()
    changed[fold.test] += 100
    other = PATIENTS._replace(features=changed)
    one, *parts = api.models.prepared(PATIENTS, fold, False, 1)
    another, *changed_parts = api.models.prepared(other, fold, False, 1)
    np.testing.assert_array_equal(one.mean, another.mean)
    for (a, labels), (b, _) in zip(parts, changed_parts, strict=True):
        np.testing.assert_array_equal(a, b)
        assert len(labels) == len(a)
    np.testing.assert_allclose(parts[0][0].mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(parts[0][0].std(axis=0), 1)


@check
def the_conditional_mean_is_a_regression(api):
    generator = np.random.default_rng(0)
    features = generator.normal(size=(300, 4)) @ generator.normal(size=(4, 4))
    fill = api.baselines.ConditionalMean(features, ridge=0.0)
    gap = features[:5].copy()
    gap[:, 2] = np.nan
    known = [0, 1, 3]
    wanted = LinearRegression().fit(features[:, known], features[:, 2])
    filled = fill(gap)
    np.testing.assert_allclose(filled[:, 2], wanted.predict(features[:5, known]))
    np.testing.assert_allclose(filled[:, known], features[:5, known])
    assert np.isnan(gap[:, 2]).all()


@check
def each_patient_gets_the_model_that_has_not_seen_them(api):
    models = [lambda features, k=k: np.full(len(features), float(k)) for k in range(5)]
    logits = api.fitting.out_of_fold(models, FOLDS, PATIENTS.features)
    for k, fold in enumerate(FOLDS):
        assert (logits[fold.test] == k).all()


@check
def only_what_is_used_is_important(api):
    one = fitted(api, lambda scaled: 3 * scaled[:, 2] - 3 * scaled[:, 3])
    features, labels = PATIENTS.features[:200], PATIENTS.malignant[:200]
    grown = api.importance.permutation_importance(one, features, labels, [[0], [2], [2, 3]])
    assert grown[0] == 0
    assert grown[1] > 0.1
    # Radius and perimeter together move together: their difference stays small.
    one.inner = lambda scaled: 30 * scaled[:, 0] - 30 * scaled[:, 2]
    alone, both = api.importance.permutation_importance(one, features, labels, [[0], [0, 2]])
    assert both < 0.2 * alone
    np.testing.assert_allclose(api.importance.coefficients(one)[:3], [30, 0, -30], atol=1e-9)


@check
def the_largest_are_hidden(api):
    order = np.array([[0.1, 0.5, 0.2, 0.4]])
    hidden = api.importance.hide_by(order, np.ones((1, 4)), 2)
    np.testing.assert_array_equal(np.isnan(hidden), [[False, True, False, True]])


@check
def rank_correlations_by_hand(api):
    rising = np.array([1.0, 2, 3, 4])
    assert api.importance.agreement(rising[None], (rising**3)[None]) == pytest.approx(1)
    rows = np.array([rising, rising[::-1], rising])
    assert api.importance.stability(rows) == pytest.approx(-1 / 3)
    names = api.importance.size_features(PATIENTS.names)
    assert [PATIENTS.names[i] for i in names][:3] == ["mean radius", "mean perimeter", "mean area"]
    assert len(names) == 9


BROKEN = {
    "benign is one": ("data", "(data.target == 0)", "(data.target == 1)"),
    "validation within the test part": ("data", "            rest, test_size",
                                        "            test, test_size"),
    "the same folds with every seed": ("data", "shuffle=True, random_state=seed",
                                       "shuffle=True, random_state=0"),
    "the same features hidden for all": ("data", ".random((n, n_features)).argsort(axis=1)",
                                         ".random((1, n_features)).argsort(axis=1)"),
    "the first copy has gaps": ("data", "np.linspace(0, 0.9, copies)",
                                "np.linspace(0.1, 0.9, copies)"),
    "losses of the other diagnosis": ("data", "malignant == 1, -logits, logits",
                                      "malignant == 1, logits, -logits"),
    "ties count for nobody": ("data", "ranks = rankdata(logits)",
                              'ranks = rankdata(logits, method="min")'),
    "the wrong side of the threshold": ("data", "np.sort(logits[malignant == 0])",
                                        "np.sort(logits[malignant == 1])"),
    "bins are not weighted": ("data", "counts @ np.abs(said - true) / counts.sum()",
                              "np.abs(said - true).mean()"),
    "the temperature multiplies": ("data", "logits / np.exp(power)", "logits * np.exp(power)"),
    "a perfect one has no error": ("data", "< expit(logits)\n", "< 2.0\n"),
    "other patients for the other system": ("data", "score(labels, b[who])",
                                            "score(labels, b[generator.permutation(who)])"),
    "the mask turned round": ("models", "F.pad(~features.isnan()", "F.pad(features.isnan()"),
    "no mask": ("models", "mask = present(features)[:, None, None, :]",
                "mask = torch.ones_like(present(features))[:, None, None, :]"),
    "roles of query and key swapped": ("models", "[:, :, 0, 1:].mean", "[:, :, 1:, 0].mean"),
    "the first feature reads": ("models", "self.norm(x[:, 0])", "self.norm(x[:, 1])"),
    "one vector for all features": ("models", "[:, :, None] * self.weight +",
                                    "[:, :, None] * self.weight[0] +"),
    "equal weights that are none": ("models", "other.equal_weights = True", "pass"),
    "the original loses its weights": ("models", "other = copy.copy(fitted)", "other = fitted"),
    "a gap is the mean": ("models", "there = (~features.isnan())",
                          "there = torch.ones_like(features)"),
    "scaled by all patients": ("models", "fitted = Scaled(patients.features[fold.fitting])",
                               "fitted = Scaled(patients.features)"),
    "filled without the means": ("baselines", "filled = features - self.mean",
                                 "filled = features.copy()"),
    "the caller's array is filled": ("baselines", "filled = features - self.mean",
                                     "filled = features; filled -= self.mean"),
    "a model that has seen the patient": ("fitting", "logits[fold.test] = one(features[fold.test])",
                                          "logits[fold.fitting] = one(features[fold.fitting])"),
    "members of a group move apart": ("importance",
        "features[generator.permutation(len(features))][:, group]",
        "generator.permuted(features, axis=0)[:, group]"),
    "the smallest are hidden": ("importance", "(-order).argsort", "order.argsort"),
    "pairs with itself": ("importance", "combinations(profiles, 2)", "zip(profiles, profiles)"),
}  # fmt: skip


class TestMedicine(ZooTests):
    zoo = Zoo(CHECKS, rewritten(MODULES, BROKEN), BROKEN)


def test_no_patient_is_there_twice():
    assert len(np.unique(PATIENTS.features, axis=0)) == len(PATIENTS.features)
    # Nor nearly: the two that are most alike differ by more than rounding.
    scaled = (PATIENTS.features - PATIENTS.features.mean(0)) / PATIENTS.features.std(0)
    distances = np.linalg.norm(scaled[:, None] - scaled[None], axis=-1)
    assert distances[~np.eye(569, dtype=bool)].min() > 0.5


def test_boosting_stops_after_so_many_trees():
    features, labels = PATIENTS.features[:120], PATIENTS.malignant[:120]
    found = medicine_baselines._boosted(features, labels, 0)[0]
    wanted = HistGradientBoostingClassifier(
        max_iter=25, max_leaf_nodes=4, early_stopping=False, random_state=0
    ).fit(features, labels)
    np.testing.assert_allclose(found(features), wanted.decision_function(features))


def test_training_is_a_function_of_the_seed_and_lowers_the_loss(monkeypatch):
    monkeypatch.setattr(medicine_models, "STEPS", 15)
    fold = FOLDS[0]
    arguments = ("MLP", PATIENTS, fold)
    one, same, other = (
        medicine_models.fit_network(*arguments, seed, gaps=True) for seed in (1, 1, 2)
    )
    features, labels = PATIENTS.features[fold.test], PATIENTS.malignant[fold.test]
    np.testing.assert_array_equal(one(features), same(features))
    assert np.abs(one(features) - other(features)).max() > 1e-3
    trained = medicine_models.fit_network("FT-Transformer", PATIENTS, fold, 0, equal_weights=True)
    assert trained.equal_weights
    assert medicine_data.log_losses(labels, trained(features)).mean() < 0.55


RAISES = {
    "labels": (
        lambda: medicine_data.folds(np.arange(30), 0),
        "malignant must be zeros and ones, ten or more of each",
    ),
    "share": (
        lambda: medicine_data.hide(PATIENTS.features, 1.0, 0),
        r"share must be from 0 to below 1; got 1.0",
    ),
    "logits": (
        lambda: medicine_data.scores(np.array([0, 1]), np.array([0.0, np.nan])),
        r"logits must be finite, of shape \(2,\); got shape \(2,\)",
    ),
    "incomplete": (
        lambda: medicine_baselines.ConditionalMean(np.array([[np.nan, 1.0]])),
        "features must be complete to learn how they go together",
    ),
    "network": (
        lambda: medicine_models.build("CNN", 30, 0),
        r"kind must be one of \('FT-Transformer', 'MLP'\); got 'CNN'",
    ),
    "baseline": (
        lambda: medicine_baselines.fit_baseline("oracle", PATIENTS, FOLDS[0], 0),
        r"kind must be one of \('logistic regression', .*\); got 'oracle'",
    ),
    "number of models": (
        lambda: medicine.out_of_fold([], FOLDS, PATIENTS.features),
        "fitted and parts must be equally many; got 0, 5",
    ),
    "a patient without a test": (
        lambda: medicine.out_of_fold([None] * 4, FOLDS[:4], PATIENTS.features),
        "the test parts must hold every patient once",
    ),
}


@pytest.mark.parametrize("name", RAISES)
def test_errors_name_what_is_wrong(name):
    call, message = RAISES[name]
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()
