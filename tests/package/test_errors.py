"""Every error says what was wrong and what was wanted; none is left untested."""

import re
from functools import partial

import numpy as np
import pytest
import torch

import attn_tutorial as at
from package.raises import unreached

QUERY, KEY, VALUE = np.zeros((3, 4)), np.zeros((5, 4)), np.zeros((5, 2))


def attend(query=QUERY, key=KEY, value=VALUE, **options):
    return at.attention(query, key, value, **options)


# What is called, the exception, and what its message must say (a regular expression).
ERRORS = {
    # arrays
    "list": (
        lambda: attend(query=[[1.0, 2.0]]),
        TypeError,
        r"^query must be a NumPy array or a torch tensor; got list$",
    ),
    "mixed libraries": (
        lambda: attend(value=torch.zeros(5, 2)),
        TypeError,
        r"^query, key and value must come from one array library; "
        r"got query: NumPy, key: NumPy, value: torch$",
    ),
    "integers": (
        lambda: attend(key=np.zeros((5, 4), dtype=int)),
        TypeError,
        r"^key must hold floating-point numbers; got dtype int64\. Convert it first",
    ),
    "complex": (
        lambda: at.softmax(np.zeros(3, dtype=complex)),
        TypeError,
        r"^scores must hold floating-point numbers; got dtype complex128",
    ),
    "mixed dtypes": (
        lambda: attend(key=KEY.astype(np.float32)),
        TypeError,
        r"^query, key and value must have one dtype; "
        r"got query: float64, key: float32, value: float64$",
    ),
    "mixed dtypes in torch": (
        lambda: at.cosine(torch.zeros(3, 4), torch.zeros(3, 4).half()),
        TypeError,
        r"got query: float32, key: float16$",
    ),
    # shapes
    "one axis": (
        lambda: attend(query=np.zeros(4)),
        ValueError,
        r"^query must have shape \(\.\.\., n_q, d_k\); got \(4,\)$",
    ),
    "one axis, value": (
        lambda: attend(value=np.zeros(5)),
        ValueError,
        r"^value must have shape \(\.\.\., n_k, d_v\); got \(5,\)$",
    ),
    "one axis, key of a score": (
        lambda: at.dot_product(QUERY, np.zeros(4)),
        ValueError,
        r"^key must have shape \(\.\.\., n_k, d_k\); got \(4,\)$",
    ),
    "widths differ": (
        lambda: attend(key=np.zeros((5, 3))),
        ValueError,
        r"^query \(\.\.\., n_q, d_k\) and key \(\.\.\., n_k, d_k\) must agree in d_k; "
        r"got shapes \(3, 4\) and \(5, 3\)$",
    ),
    "no features": (
        lambda: attend(query=np.zeros((3, 0)), key=np.zeros((5, 0))),
        ValueError,
        r"^query and key need at least one feature, d_k > 0; got shapes \(3, 0\) and \(5, 0\)$",
    ),
    "as many values as keys": (
        lambda: attend(value=np.zeros((6, 2))),
        ValueError,
        r"^key \(\.\.\., n_k, d_k\) and value \(\.\.\., n_k, d_v\) must agree in n_k; "
        r"got shapes \(5, 4\) and \(6, 2\)$",
    ),
    "leading axes": (
        lambda: attend(query=np.zeros((2, 3, 4)), key=np.zeros((3, 5, 4))),
        ValueError,
        r"^the leading axes of query, key and value must broadcast; "
        r"got shapes query: \(2, 3, 4\), key: \(3, 5, 4\), value: \(5, 2\)$",
    ),
    # the score
    "score no function": (
        lambda: attend(score="dot"),
        TypeError,
        r"^score must be a function score\(query, key\); got str$",
    ),
    "score of the wrong shape": (
        lambda: attend(score=lambda query, key: (query @ key.T).T),
        ValueError,
        r"^score must return shape \(\.\.\., n_q, n_k\) = \(3, 5\) for query \(3, 4\) and "
        r"key \(5, 4\); got \(5, 3\)$",
    ),
    "score of another library": (
        lambda: attend(score=lambda query, key: torch.zeros(3, 5)),
        TypeError,
        r"^the result of score and query must come from one array library; "
        r"got the result of score: torch, query: NumPy$",
    ),
    "cap of nothing": (
        lambda: at.soft_capped(0),
        ValueError,
        r"^cap must be a number above 0; got 0$",
    ),
    "cap of no score": (
        lambda: at.soft_capped(1.0, score=3),
        TypeError,
        r"^score must be a function score\(query, key\); got int$",
    ),
    "W a vector": (
        lambda: at.bilinear(np.zeros(4)),
        ValueError,
        r"^W must have shape \(d_q, d_k\); got \(4,\)$",
    ),
    "v a matrix": (
        lambda: at.additive(np.zeros((4, 2)), np.zeros((4, 2)), np.zeros((2, 1))),
        ValueError,
        r"^v must have shape \(d_hidden,\); got \(2, 1\)$",
    ),
    "W of integers": (
        lambda: at.bilinear(np.eye(4, dtype=int)),
        TypeError,
        r"^W must hold floating-point numbers; got dtype int64$",
    ),
    "W does not fit": (
        lambda: attend(score=at.bilinear(np.zeros((4, 5)))),
        ValueError,
        r"^W must have shape \(d_q, d_k\) = \(4, 4\), as query \(3, 4\) and key \(5, 4\) need it; "
        r"got \(4, 5\)$",
    ),
    "W of another library": (
        lambda: attend(score=at.bilinear(torch.zeros(4, 4))),
        TypeError,
        r"^W and query and key must come from one array library",
    ),
    "hidden widths differ": (
        lambda: at.additive(np.zeros((4, 3)), np.zeros((4, 2)), np.zeros(3)),
        ValueError,
        r"must agree in d_hidden; got shapes \(4, 3\), \(4, 2\) and \(3,\)$",
    ),
    "W_k does not fit": (
        lambda: attend(score=at.additive(np.zeros((4, 3)), np.zeros((6, 3)), np.zeros(3))),
        ValueError,
        r"^W_k must have 4 rows, the width of key \(5, 4\); got shape \(6, 3\)$",
    ),
    # softmax
    "softmax of no such axis": (
        lambda: at.softmax(np.zeros((3, 5)), axis=2),
        ValueError,
        r"^axis must be one of the 2 axes of scores, shape \(3, 5\); got 2$",
    ),
    # masks
    "mask of integers": (
        lambda: attend(mask=np.ones((3, 5), dtype=int)),
        TypeError,
        r"^mask must be boolean \(True = may attend\) or floating-point \(added to the scores\); "
        r"got dtype int64$",
    ),
    "mask of another shape": (
        lambda: attend(mask=np.ones((5, 3), dtype=bool)),
        ValueError,
        r"^mask must broadcast to \(\.\.\., n_q, n_k\) = \(3, 5\); got shape \(5, 3\)$",
    ),
    "mask with more queries": (
        lambda: attend(query=QUERY[:1], mask=np.ones((3, 5), dtype=bool)),
        ValueError,
        r"^mask must broadcast to \(\.\.\., n_q, n_k\) = \(1, 5\); got shape \(3, 5\)$",
    ),
    "mask a list": (
        lambda: attend(mask=[[True] * 5] * 3),
        TypeError,
        r"^mask must be a NumPy array or a torch tensor; got list$",
    ),
    "mask of torch over NumPy": (
        lambda: attend(mask=torch.ones(3, 5, dtype=torch.bool)),
        TypeError,
        r"^mask must come from the library of the scores, NumPy, or from NumPy; got torch$",
    ),
    "negative count": (
        lambda: at.causal_mask(3, -1),
        ValueError,
        r"^n_k must not be negative; got -1$",
    ),
    "negative window": (
        lambda: at.window_mask(3, 3, left=-1, right=0),
        ValueError,
        r"^left must not be negative; got -1$",
    ),
    "fractional offset": (
        lambda: at.causal_mask(3, 3, offset=0.5),
        TypeError,
        r"^offset must be a whole number; got 0\.5$",
    ),
    "fractional lengths": (
        lambda: at.padding_mask([1.5], 3),
        TypeError,
        r"^lengths must hold whole numbers; got dtype float64$",
    ),
    "lengths beyond the keys": (
        lambda: at.padding_mask([4, 2, -1], 3),
        ValueError,
        r"^lengths must lie between 0 and n_k = 3; got \[-1, 4\]$",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error(name):
    call, exception, message = ERRORS[name]
    with pytest.raises(exception, match=message):
        call()


@pytest.mark.parametrize(
    "score",
    [
        at.dot_product,
        at.scaled_dot_product,
        at.cosine,
        at.pearson,
        at.spearman,
        at.bilinear(np.eye(4)),
        at.additive(np.eye(4), np.eye(4), np.ones(4)),
        at.soft_capped(1.0),
        partial(at.scaled_dot_product, scale=2.0),
    ],
)
def test_every_score_checks_its_arguments(score):
    for query, key, exception in (
        (np.zeros((3, 4), dtype=int), KEY, TypeError),
        (QUERY, KEY.astype(np.float32), TypeError),
        (QUERY, torch.zeros(5, 4), TypeError),
        (QUERY[0], KEY, ValueError),
        (QUERY, np.zeros((5, 3)), ValueError),
        (np.zeros((2, 3, 4)), np.zeros((3, 5, 4)), ValueError),
    ):
        with pytest.raises(exception, match=r"query|key|W"):
            score(query, key)


def test_no_error_is_untested():
    """Each `raise` of the first floor is reached by one of the cases above."""
    calls = [call for call, _, _ in ERRORS.values()]
    assert not unreached(("_arrays", "core", "masks", "scores"), calls)


def test_an_untested_error_would_be_noticed():
    calls = [call for name, (call, _, _) in ERRORS.items() if name != "list"]
    assert len(unreached(("_arrays", "core", "masks", "scores"), calls[:1])) > 10
    assert unreached(("scores",), calls[:1])


def test_messages_hold_no_nonsense():
    for call, exception, _ in ERRORS.values():
        with pytest.raises(exception) as caught:
            call()
        assert not re.search(r"torch\.float|<class|object at", str(caught.value))
