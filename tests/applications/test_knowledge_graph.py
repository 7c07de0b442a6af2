"""Completing a knowledge graph: no fact leaks, ranks by brute force, each broken version caught."""

import itertools

import numpy as np
import pytest
import torch
from babel import Locale
from sklearn.metrics.pairwise import cosine_similarity

from attn_tutorial.applications.knowledge_graph import baselines, fitting, looking, ranking, table
from attn_tutorial.applications.knowledge_graph import data as graph_data
from attn_tutorial.applications.knowledge_graph import models as graph_models
from attn_tutorial.applications.knowledge_graph.cldr import in_words
from attn_tutorial.attribution import uniform_weights
from package.mutants import unbroken
from package.zoo import Zoo, ZooTests, rewritten

GRAPH = graph_data.load_graph()
N_RELATIONS = len(graph_data.RELATIONS)
PROBLEM = fitting.load_problem(GRAPH, 0)
MODULES = {
    "data": graph_data,
    "ranking": ranking,
    "table": table,
    "baselines": baselines,
    "models": graph_models,
    "fitting": fitting,
    "looking": looking,
}

# Four territories and a language, in three relations; 5 to 9 are answers.
SPEAKS, PAYS, LIES = (
    graph_data.RELATIONS.index(name) for name in ("official language", "pays in", "lies in")
)
SMALL = np.array(
    [
        (0, SPEAKS, 4),
        (0, PAYS, 5),
        (0, LIES, 7),
        (1, SPEAKS, 4),
        (1, PAYS, 5),
        (2, PAYS, 6),
        (2, PAYS, 8),
        (2, LIES, 7),
        (3, SPEAKS, 9),
        (3, PAYS, 6),
    ]
)
N_SMALL = 10
SMALL_PROBLEM = fitting.Problem(
    N_SMALL,
    SMALL,
    {"training": SMALL[:8], "test": SMALL[8:]},
    {"training": graph_data.questions(SMALL[:8], SMALL[:8])},
)

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def sharp(api, kind="attention over facts", training=SMALL, n_entities=N_SMALL):
    """An untrained model; where it has heads, their weights are far from equal."""
    model = api.models.build(kind, training, n_entities, 0).eval()
    if kind == "attention over facts":
        with torch.no_grad():
            model.attention.query.weight *= 8
    return model


def codes(subject, relation, answer):
    """One number for each fact."""
    return (subject * N_RELATIONS + relation) * PROBLEM.n_entities + answer


def answered(model, asked):
    with torch.no_grad():
        return model(asked)


@check
def no_fact_is_in_two_parts(api):
    for seed in range(3):
        parts = api.data.split(GRAPH, seed)
        sets = {name: {tuple(fact) for fact in part.tolist()} for name, part in parts.items()}
        assert all(len(sets[name]) == len(parts[name]) for name in parts)
        for one, other in itertools.combinations(sets.values(), 2):
            assert not one & other
        subjects = {name: set(part[:, 0].tolist()) for name, part in parts.items()}
        for name in ("training", "validation", "test"):
            assert not subjects["new territories"] & subjects[name]
        # Validation facts never test: settings are chosen by them.
        other = api.data.split(GRAPH, seed + 1)
        validation = {tuple(fact) for fact in other["validation"].tolist()}
        assert not validation & (sets["test"] | sets["new territories"])
        answers = {tuple(fact) for fact in parts["training"][:, 1:].tolist()}
        for name in ("validation", "test", "new territories"):
            assert {tuple(fact) for fact in parts[name][:, 1:].tolist()} <= answers


@check
def the_asked_fact_is_never_given(api):
    parts = PROBLEM.parts
    for name, asked in api.data.load_questions(GRAPH, parts).items():
        true = (asked.fact_relation == asked.relation[:, None]) & (
            asked.fact_entity == asked.answer[:, None]
        )
        assert not (true & asked.there).any()
        assert asked.there.any(dim=1).float().mean() > 0.95
        turned = asked.fact_relation >= N_RELATIONS
        ends = asked.subject[:, None].expand_as(turned), asked.fact_entity
        given = codes(
            torch.where(turned, ends[1], ends[0]),
            asked.fact_relation % N_RELATIONS,
            torch.where(turned, ends[0], ends[1]),
        )[asked.there]
        for part in ("validation", "test"):
            held_out = codes(*torch.from_numpy(parts[part]).T)
            assert not torch.isin(given, held_out).any(), (name, part)


@check
def facts_are_seen_from_both_ends(api):
    asked = api.data.questions(SMALL[[0, 6]], SMALL)
    facts = [
        {
            (int(relation), int(entity))
            for relation, entity, there in zip(*columns, strict=True)
            if there
        }
        for columns in zip(asked.fact_relation, asked.fact_entity, asked.there, strict=True)
    ]
    assert facts == [{(PAYS, 5), (LIES, 7)}, {(PAYS, 6), (LIES, 7)}]
    (turned,) = api.data.questions(np.array([(4, PAYS, 6)]), SMALL).fact_relation.tolist()
    assert turned == [SPEAKS + N_RELATIONS] * 2


@check
def ranks_by_brute_force(api):
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 4, (25, 7)).astype(float)  # many ties
    answer = generator.integers(0, 7, 25)
    others = generator.random((25, 7)) < 0.2
    others[np.arange(25), answer] = False
    found = {ties: api.ranking.chances(scores, answer, others, ties=ties)
             for ties in ("random", "best", "worst")}  # fmt: skip
    expected = api.ranking.reciprocal_ranks(*found["random"])
    two = api.ranking.hits(*found["random"], 2)
    for row in range(25):
        rivals = np.delete(scores[row], np.append(np.flatnonzero(others[row]), answer[row]))
        ranks = []
        for _ in range(200):  # ties broken by a coin
            noise = 0.1 * generator.random(len(rivals) + 1)
            ranks.append(1 + (rivals + noise[1:] > scores[row, answer[row]] + noise[0]).sum())
        assert found["best"][0][row] == min(ranks)
        assert found["worst"][0][row] == max(ranks)
        assert np.mean(1 / np.array(ranks)) == pytest.approx(expected[row], abs=0.1)
        assert np.mean(np.array(ranks) <= 2) == pytest.approx(two[row], abs=0.15)


@check
def constant_scores_get_what_chance_gets(api):
    scores, answer, none = np.zeros((3, 4)), np.array([0, 1, 3]), np.zeros((3, 4), bool)
    fair = api.ranking.reciprocal_ranks(*api.ranking.chances(scores, answer, none))
    np.testing.assert_allclose(fair, (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    unfair = api.ranking.reciprocal_ranks(*api.ranking.chances(scores, answer, none, ties="best"))
    np.testing.assert_array_equal(unfair, 1)


@check
def the_cosine_is_that_of_sklearn(api):
    generator = np.random.default_rng(1)
    rows, counts = (generator.random((6, 9)) < 0.5).astype(float), generator.random(9)
    score = api.table.weighted_cosine(torch.tensor(counts), 3.0)
    found = score(torch.tensor(rows[:2]), torch.tensor(rows))
    wanted = cosine_similarity(rows[:2] * np.sqrt(counts), rows * np.sqrt(counts))
    np.testing.assert_allclose(found, 3 * wanted, atol=1e-6)


@check
def the_table_by_hand(api):
    facts = api.table.FactTable(SMALL, N_SMALL)
    asked = api.data.questions(SMALL[:1], SMALL)  # territory 0 and its language: currency, area
    together = facts.seen(asked)[0] @ facts.known.T
    assert together.tolist() == [2, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    every = api.data.questions(SMALL, SMALL)
    filled = every._replace(
        fact_relation=torch.where(every.there, every.fact_relation, PAYS),
        fact_entity=torch.where(every.there, every.fact_entity, 5),
    )
    torch.testing.assert_close(facts.seen(filled), facts.seen(every))
    voters, answers = facts.answers(PAYS)
    assert voters.tolist() == [0, 1, 2, 3]
    assert answers[2].tolist() == [0, 0, 0, 0, 0, 0, 0.5, 0, 0.5, 0]


@check
def neighbours_vote_but_not_the_subject(api):
    asked = api.data.questions(SMALL[:1], SMALL)  # which language has 0? Only 1 pays the same
    votes = api.baselines.similar_entities(asked, SMALL, N_SMALL)
    assert votes[0].argmax() == 4
    none = SMALL[[0, 2, 5]]  # without 1 nobody is left who could know
    votes = api.baselines.similar_entities(api.data.questions(none[:1], none), none, N_SMALL)
    assert votes.max() == pytest.approx(1e-4)


@check
def voters_do_not_include_the_subject(api):
    model = sharp(api, "attention over entities")
    asked = api.data.questions(SMALL[SMALL[:, 1] == PAYS], SMALL)
    with torch.no_grad():
        output, weights = model.attend(asked, PAYS)
    assert weights.shape == (5, 4)
    assert (weights[torch.arange(5), asked.subject] == 0).all()
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(5))
    torch.testing.assert_close(output.sum(dim=1), torch.ones(5))
    # Of territory 1 its language is known; territory 0 shares it, and nobody else does.
    assert asked.subject[1] == 1
    assert weights[1, 0] > 0.99
    assert output[1].argmax() == 5


@check
def with_equal_weights_it_is_the_most_frequent_answer(api):
    training, n = PROBLEM.parts["training"], PROBLEM.n_entities
    asked = graph_data.Questions(*(part[:30] for part in PROBLEM.questions["new territories"]))
    model = sharp(api, "attention over entities", training, n)
    with torch.no_grad():
        model.sharpness[:] = -30.0
        shares = model(asked).exp()
    for row, relation in enumerate(asked.relation.tolist()):
        _, answers = model.answers[relation]
        torch.testing.assert_close(shares[row], answers.mean(dim=0) + 1e-9)


@check
def padding_and_order_do_not_matter(api):
    model = sharp(api)
    asked = api.data.questions(SMALL, SMALL)
    rubbish = asked._replace(
        fact_relation=torch.where(asked.there, asked.fact_relation, 5),
        fact_entity=torch.where(asked.there, asked.fact_entity, 9),
    )
    order = torch.arange(asked.there.shape[1] - 1, -1, -1)
    turned = asked._replace(**{name: getattr(asked, name)[:, order] for name in asked._fields[3:]})
    plain = answered(model, asked)
    torch.testing.assert_close(answered(model, rubbish), plain)
    torch.testing.assert_close(answered(model, turned), plain)


@check
def facts_and_their_relations_matter(api):
    model = sharp(api)
    asked = api.data.questions(SMALL, SMALL)
    plain = answered(model, asked)
    for changed in (
        asked._replace(fact_relation=(asked.fact_relation + 1) % N_RELATIONS),
        asked._replace(fact_entity=(asked.fact_entity + 1) % N_SMALL),
    ):
        there = asked.there.any(dim=1)
        assert ((answered(model, changed) - plain)[there].abs().amax(dim=1) > 1e-3).all()
    with uniform_weights(model):
        many = asked.there.sum(dim=1) > 1
        assert ((answered(model, asked) - plain)[many].abs().amax(dim=1) > 1e-4).all()


@check
def one_subject_asked_differently_weighs_differently(api):
    model = sharp(api)
    asked = api.data.questions(np.array([(2, SPEAKS, 4), (2, LIES, 9)]), SMALL)
    weights = []
    model.attention.register_forward_hook(lambda *given: weights.append(given[2][1]))
    forward = model.attention.forward
    model.attention.forward = lambda *given, **options: forward(
        *given, **options | {"need_weights": True}
    )
    answered(model, asked)
    (found,) = weights
    torch.testing.assert_close(found.sum(dim=-1), torch.ones(2, 4, 1))
    assert (found[0] - found[1]).abs().max() > 1e-2


@check
def vector_models_by_hand(api):
    asked = api.data.questions(SMALL, SMALL)
    for kind in ("TransE", "DistMult", "ComplEx"):
        model = api.models.build(kind, SMALL, N_SMALL, 0, d_model=6).eval()
        subject = model.entity.weight[asked.subject]
        relation, entity = model.relation.weight[asked.relation], model.entity.weight
        with torch.no_grad():
            if kind == "TransE":
                fit = -((subject + relation)[:, None] - entity).norm(dim=-1)
            elif kind == "DistMult":
                fit = torch.einsum("nd,nd,ed->ne", subject, relation, entity)
            else:
                subject, relation, entity = (
                    torch.complex(*part.chunk(2, dim=-1)) for part in (subject, relation, entity)
                )
                fit = torch.einsum("nd,nd,ed->ne", subject, relation, entity.conj()).real
            wanted = 3 * fit + model.usual[asked.relation]
        torch.testing.assert_close(answered(model, asked), wanted, atol=1e-5, rtol=1e-5)


@check
def training_spares_no_answer_of_the_test(api):
    """Other answers are left out of the loss only where training knows them."""
    caught = []
    original = api.fitting.other_answers
    api.fitting.other_answers = lambda *given: caught.append(given) or original(*given)
    try:
        api.fitting.fit("DistMult", SMALL_PROBLEM, 0, steps=1)
        api.fitting.fit("DistMult", SMALL_PROBLEM, 0, steps=1, leak=True)
    finally:
        api.fitting.other_answers = original
    assert caught[0][1] is SMALL_PROBLEM.parts["training"]
    assert caught[1][1] is SMALL_PROBLEM.facts


@check
def hidden_facts_are_hidden_from_both_ends(api):
    asked = api.data.questions(np.concatenate([SMALL, [(4, LIES, 7)]]), SMALL)
    hidden = api.looking.without(asked, SPEAKS)
    left = hidden.fact_relation[hidden.there] % N_RELATIONS
    assert (left != SPEAKS).all()
    assert hidden.there.sum() == (asked.there & (asked.fact_relation % N_RELATIONS != SPEAKS)).sum()
    assert hidden.there.sum() > 0


BROKEN = {
    "test facts are trained on": ("data", "~is_new & ~in_test]", "~is_new]"),
    "validation facts are tested": ("data", "facts[in_test & ~in_validation]", "facts[in_test]"),
    "new territories have been met": ("data", "~in_validation & ~is_new & ~in_test",
                                      "~in_validation & ~in_test"),
    "answers nobody could know": ("data", "(relation, answer) in answers and", "True and"),
    "the asked fact is given": ("data", "if fact != (relation, answer)]", "if fact]"),
    "test facts are given": ("data", 'else parts["training"]', "else graph.facts"),
    "turned relations are not told apart": ("data", "(relation + len(RELATIONS), subject)",
                                            "(relation, subject)"),
    "ties count as won": ("ranking", "(scores >= true)", "(scores > true)"),
    "other answers compete": ("ranking", "(scores > true) & ~others", "(scores > true)"),
    "the best rule is the worst": ("ranking", "return first, first", "return last, last"),
    "hits too strict": ("ranking", "k - first + 1, 0", "k - first, 0"),
    "a cosine without lengths": ("table", "@ key.T / lengths", "@ key.T"),
    "given facts are not masked": ("table", "torch.where(asked.there, column, n_columns)",
                                   "column.clone()"),
    "several answers, several votes": ("table", "answers / answers.sum(dim=1, keepdim=True)",
                                       "answers"),
    "everybody votes on itself": ("baselines",
                                  "likeness[torch.arange(len(likeness)), asked.subject] = 0",
                                  "pass"),
    "the mask turned round": ("models", "voters != asked.subject", "voters == asked.subject"),
    "the score turned round": ("models", "self.sharpness[relation].exp())",
                               "-self.sharpness[relation].exp())"),
    "padding is attended to": ("models", "mask=asked.there[:, None, None]", "mask=None"),
    "other ends of facts are not seen": ("models", "self.entity(asked.fact_entity)]",
                                         "0 * self.entity(asked.fact_entity)]"),
    "nobody asks": ("models", "query = sum(own, question)[:, None]",
                    "query = 0 * sum(own, question)[:, None]"),
    "relations of facts are not seen": ("models", "self.relation(asked.fact_relation),",
                                        "0 * self.relation(asked.fact_relation),"),
    "the object is not conjugate": ("models", "a * c - b * d, a * d + b * c",
                                    "a * c - b * d, -a * d - b * c"),
    "a distance to be maximised": ("models", "return -torch.cdist", "return torch.cdist"),
    "test answers are spared": ("fitting", "problem.facts if leak else training",
                                "problem.facts"),
    "hidden from one end": ("looking", "asked.fact_relation % len(RELATIONS) != relation",
                            "asked.fact_relation != relation"),
}  # fmt: skip


def build(name):
    """The modules, one of them broken; those that use the table use the broken one."""
    api = rewritten(MODULES, BROKEN)(name)
    if api.table is not MODULES["table"]:
        for user in ("baselines", "models"):
            setattr(api, user, unbroken(MODULES[user]))
            for part in ("FactTable", "weighted_cosine"):
                setattr(getattr(api, user), part, getattr(api.table, part))
    return api


class TestKnowledgeGraph(ZooTests):
    zoo = Zoo(CHECKS, build, BROKEN)


def test_the_graph_says_what_babel_says():
    facts = {
        (GRAPH.names[subject], graph_data.RELATIONS[relation], GRAPH.names[answer])
        for subject, relation, answer in GRAPH.facts.tolist()
    }
    assert len(facts) == len(GRAPH.facts)
    for fact in (
        ("Switzerland", "official language", "Romansh"),
        ("Switzerland", "pays in", "Swiss Franc"),
        ("Estonia", "paid in", "Estonian Kroon"),
        ("Senegal", "lies in", "Africa"),
        ("Egypt", "week begins on", "Saturday"),
        ("Germany", "clock", "24 hours"),
        ("Germany", "decimal sign", "decimal ,"),
        ("Greek", "is written in", "Greek script"),
    ):
        assert fact in facts
    assert ("Germany", "pays in", "German Mark") not in facts
    assert Locale("de", "DE").first_week_day == 0


def test_every_relation_leads_from_one_kind_to_one_kind():
    """So none is another one turned round: a fact cannot be read off its inverse."""
    ends = {
        (relation, *(GRAPH.entities[end].split()[0] for end in (subject, answer)))
        for subject, relation, answer in GRAPH.facts.tolist()
    }
    assert len(ends) == N_RELATIONS
    assert {kind for _, kind, _ in ends} == {"territory", "language"}
    assert all(subject != answer for _, subject, answer in ends)
    # Only a day may be the answer to two relations of one territory.
    pairs, counts = np.unique(GRAPH.facts[:, [0, 2]], axis=0, return_counts=True)
    for _, answer in pairs[counts > 1]:
        assert GRAPH.entities[answer].startswith("day ")
    assert (counts > 1).sum() <= 3


def test_names():
    assert in_words("language zh_Hant") == "Chinese (Traditional)"
    assert in_words("time Europe_Central") == "Europe Central time"
    assert in_words("language laj") == "laj"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: graph_data.questions(SMALL[:, :2], SMALL),
         r"^asked must have shape \(n, 3\); got \(10, 2\)$"),
        (lambda: graph_data.questions(SMALL[:0], SMALL), "^asked must hold one fact or more"),
        (lambda: ranking.chances(np.zeros((1, 2)), np.array([0]), np.zeros((1, 2), bool), ties="x"),
         "^ties must be 'random', 'best' or 'worst'; got 'x'$"),
        (lambda: ranking.chances(np.array([[np.nan]]), np.array([0]), np.zeros((1, 1), bool)),
         "^scores must be finite"),
        (lambda: baselines.similar_entities(PROBLEM.questions["test"], SMALL, 10, only="eats"),
         r"^only must be one of \('official language', .*; got 'eats'$"),
        (lambda: graph_models.build("RNN", SMALL, N_SMALL, 0),
         "^kind must be one of .*; got 'RNN'$"),
    ],
)  # fmt: skip
def test_wrong_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
