"""What somebody would try first: the commonest kind, and counts of words."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import Pipeline, make_pipeline

from attn_tutorial.parameter_kinds.data import Example, labels, words_of
from attn_tutorial.parameter_kinds.training import scores

WORDS = {"tokenizer": words_of, "token_pattern": None, "lowercase": False}
STRENGTHS = (1.0, 3.0, 10.0, 30.0, 100.0)


def baselines() -> dict[str, list[Pipeline]]:
    """For each baseline, its variants; the validation part chooses among them."""
    return {
        "commonest kind": [make_pipeline(CountVectorizer(**WORDS), DummyClassifier())],
        "naive Bayes, words": [
            make_pipeline(CountVectorizer(**WORDS), MultinomialNB(alpha=alpha))
            for alpha in (0.03, 0.1, 0.3, 1.0)
        ],
        "logistic regression, words": [
            make_pipeline(TfidfVectorizer(**WORDS), LogisticRegression(C=C, max_iter=2000))
            for C in STRENGTHS
        ],
        "logistic regression, words and pairs": [
            make_pipeline(
                TfidfVectorizer(**WORDS, ngram_range=(1, 2)),
                LogisticRegression(C=C, max_iter=2000),
            )
            for C in STRENGTHS
        ],
    }


def fit_baselines(parts: dict[str, list[Example]]) -> dict[str, Pipeline]:
    """The baselines, fitted to the training part.

    Parameters
    ----------
    parts : dict of list of Example
        What `split` returned.

    Returns
    -------
    dict of Pipeline
        By name, of each the variant with the best accuracy on the validation part. A pipeline takes
        a list of descriptions and predicts the numbers of their kinds, in the order of `KINDS`.
    """
    texts = {name: [example.text for example in examples] for name, examples in parts.items()}
    kinds = {name: labels(examples).numpy() for name, examples in parts.items()}
    best = {}
    for name, variants in baselines().items():
        fitted = [model.fit(texts["training"], kinds["training"]) for model in variants]
        right = [model.score(texts["validation"], kinds["validation"]) for model in fitted]
        best[name] = fitted[int(np.argmax(right))]
    return best


def score_baselines(
    fitted: dict[str, Pipeline], parts: dict[str, list[Example]]
) -> dict[str, dict[str, dict[str, float]]]:
    """The scores of each fitted baseline, by its name, on the validation and the test part."""
    return {
        name: {
            part: scores(
                torch.from_numpy(model.predict([example.text for example in parts[part]])),
                labels(parts[part]),
            )
            for part in ("validation", "test")
        }
        for name, model in fitted.items()
    }
