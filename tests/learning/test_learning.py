"""Learners, tracing, schedules and the plan: against equations and brute force, and broken code."""

import itertools
import math
from dataclasses import replace
from datetime import date, timedelta
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import curve_fit

from attn_tutorial.learning import (
    baselines,
    experiment,
    forgetting,
    plan,
    schedules,
    simulator,
    tracing,
)
from package.zoo import Zoo, ZooTests, rewritten

MODULES = {
    "baselines": baselines,
    "experiment": experiment,
    "forgetting": forgetting,
    "plan": plan,
    "schedules": schedules,
    "simulator": simulator,
    "tracing": tracing,
}
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def small_log(api=None, n=12, length=14, seed=0):
    module = api.simulator if api else simulator
    world = module.World(n_skills=3, n_items=6)
    difficulty = module.draw_difficulties(world, seed)
    return module.simulate(world, n, difficulty, seed=seed, length=length, in_a_session=4)


# --- forgetting ----------------------------------------------------------------------------------


@check
def his_formula_gives_the_numbers_of_his_table(api):
    calculated = api.forgetting.ebbinghaus(api.forgetting.MINUTES, 1.84, 1.25)
    np.testing.assert_allclose(calculated, api.forgetting.CALCULATED, atol=1e-3)


@check
def a_fit_finds_the_parameters_behind_the_points(api):
    minutes = api.forgetting.MINUTES
    for name, wanted in {"exponential": (0.5, 2e-4), "power": (0.7, 0.2)}.items():
        curve = api.forgetting.CURVES[name]
        found = api.forgetting.fit(curve, minutes, curve.formula(minutes, *wanted))
        np.testing.assert_allclose(found, wanted, rtol=1e-4)


@check
def a_left_out_point_is_not_fitted(api):
    minutes, savings = api.forgetting.MINUTES, api.forgetting.SAVINGS["Seitz"]
    errors = []
    for i in range(7):
        rest = [j for j in range(7) if j != i]
        (a, b), _ = curve_fit(lambda t, a, b: a * t**-b, minutes[rest], savings[rest], (0.5, 0.1))
        errors.append(a * minutes[i] ** -b - savings[i])
    found = api.forgetting.left_out_error(api.forgetting.CURVES["power"], minutes, savings)
    assert math.isclose(found, math.sqrt(np.mean(np.square(errors))), rel_tol=1e-4)


@check
def the_bootstrap_has_the_spread_of_least_squares(api):
    minutes, savings = api.forgetting.MINUTES, api.forgetting.SAVINGS["Ebbinghaus"]
    curve = api.forgetting.CURVES["logarithmic"]
    residuals = savings - curve.formula(minutes, *api.forgetting.fit(curve, minutes, savings))
    x = np.log(minutes)
    wanted = math.sqrt((residuals**2).sum() / 5 / ((x - x.mean()) ** 2).sum())
    found = api.forgetting.bootstrap(curve, minutes, savings, n=1000, seed=0)
    assert found.shape == (1000, 2)
    assert math.isclose(found[:, 1].std(), wanted, rel_tol=0.08)


# --- simulator -----------------------------------------------------------------------------------


def two_learners(api):
    world = api.simulator.World(n_skills=2, n_items=4)
    return api.simulator.Learners(
        world=world,
        ability=np.array([0.5, -0.5]),
        difficulty=np.array([0.1, 0.2, 0.3, 0.4]),
        memory=np.zeros((2, 2)),
        half_life=np.full((2, 2), 2.0),
        practised=np.zeros((2, 2)),
    )


@check
def a_practice_follows_the_equations(api):
    learners = two_learners(api)
    skill = np.array([1, 1])
    learners.practise(skill, 1.0, np.array([True, False]))
    np.testing.assert_allclose(learners.memory, [[0, 0.4], [0, 0.4]])
    assert (learners.half_life == 2).all()  # the first practice sets no clock back
    learners.practise(skill, 5.0, np.array([True, False]))  # two half-lives later: 0.1 is left
    np.testing.assert_allclose(learners.memory[:, 1], 0.1 + 0.4 * 0.9)
    np.testing.assert_allclose(learners.half_life[:, 1], [2 * 2.125, 2 * 1.375])
    np.testing.assert_allclose(learners.practised[:, 1], 5)
    assert (learners.memory[:, 0] == 0).all()


@check
def memory_halves_in_a_half_life_and_counts_in_log_odds(api):
    learners = two_learners(api)
    learners.practise(np.array([0, 0]), 0.0, np.array([True, True]))
    np.testing.assert_allclose(learners.remembered(2.0)[:, 0], 0.5)
    chance = learners.probability(2.0)
    log_odds = np.log(chance / (1 - chance))
    # items 0 and 2 are about skill 0
    np.testing.assert_allclose(log_odds[0], [-0.3, -1.2, -0.5, -1.4])
    np.testing.assert_allclose(log_odds[1], log_odds[0] - 1)


@check
def a_copy_learns_for_itself(api):
    learners = two_learners(api)
    learners.copy().practise(np.array([0, 1]), 2.0, np.array([True, True]))
    for array in (learners.memory, learners.practised):
        assert (array == 0).all()


@check
def answers_are_as_probable_as_the_truth_says(api):
    world = api.simulator.World()
    difficulty = api.simulator.draw_difficulties(world, 0)
    log = api.simulator.simulate(world, 400, difficulty, seed=0)
    for low in (0.0, 0.25, 0.5, 0.75):
        there = (log.truth >= low) & (log.truth < low + 0.25)
        error = math.sqrt(0.25 / there.sum())
        assert abs(log.right[there].mean() - log.truth[there].mean()) < 4 * error
    assert (np.diff(log.days, axis=1) > 0).all()
    assert (log.items % world.n_skills == log.skills).all()
    assert set(log.items.ravel().tolist()) == set(range(world.n_items))
    assert max(len(set(row)) for row in log.skills[:, :8]) == 2  # in the first session
    again = api.simulator.simulate(world, 400, difficulty, seed=0)
    assert (again.right == log.right).all()


@check
def without_forgetting_nobody_gets_worse(api):
    world = api.simulator.World(n_skills=1, n_items=1, half_life=np.inf)
    log = api.simulator.simulate(
        world, 20, np.zeros(1), seed=0, length=12, in_a_session=3, skills_in_a_session=1
    )
    assert (np.diff(log.truth, axis=1) > 0).all()


# --- tracing -------------------------------------------------------------------------------------


def tracer(api, kind="with time", n_skills=3):
    torch.manual_seed(0)
    return api.tracing.Tracer(6, n_skills, kind=kind, d_model=8, n_heads=2).double().eval()


def said(api, model, log):
    with torch.no_grad():
        return model(api.tracing.Batch.of(log))


@check
def what_is_asked_now_is_answered_from_earlier_answers_alone(api):
    log = small_log()
    for kind in ("with time", "without time", "equal weights"):
        model = tracer(api, kind)
        before = said(api, model, log)
        for step in (0, 5, 13):
            right = log.right.copy()
            right[:, step:] = ~right[:, step:]
            after = said(api, model, replace(log, right=right))
            assert torch.equal(after[:, : step + 1], before[:, : step + 1])
            if step < 13:
                assert (after[:, step + 1] != before[:, step + 1]).all()


@check
def the_weights_are_those_of_a_scaled_dot_product_with_time(api):
    log, model = small_log(), tracer(api)
    batch = api.tracing.Batch.of(log)
    with torch.no_grad():
        _, weights = model.look(batch, batch, api.tracing.earlier(14))
        query = model.query(model.item(batch.items) + model.skill(batch.skills))
        source = model.answered_item(batch.items) + model.answered_skill(batch.skills)
        key = model.key(source)
        rate = F.softplus(model.rate)
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        days = log.days[0, 9] - log.days[0, :9]
        scores = (key[0, :9, part] @ query[0, 9, part]).numpy() / 2
        scores = scores - rate[head].item() * np.log1p(24 * days)
        start = (model.key(model.start)[part] @ query[0, 9, part]).item() / 2
        wanted = np.exp(np.concatenate([[start], scores]))
        np.testing.assert_allclose(
            weights[0, head, 9, :10].detach(), wanted / wanted.sum(), atol=1e-6
        )
        assert (weights[0, head, 9, 10:] == 0).all()


@check
def only_the_model_with_time_knows_time(api):
    log = small_log()
    slower = replace(log, days=3 * log.days)
    for kind in ("with time", "without time", "equal weights"):
        model = tracer(api, kind)
        same = torch.equal(said(api, model, log), said(api, model, slower))
        assert same == (kind != "with time")


@check
def equal_weights_are_equal(api):
    log, model = small_log(), tracer(api, "equal weights")
    batch = api.tracing.Batch.of(log)
    with torch.no_grad():
        _, weights = model.look(batch, batch, api.tracing.earlier(14))
    for step in range(14):
        np.testing.assert_allclose(weights[:, :, step, : step + 2 - 1], 1 / (step + 1))


@check
def hidden_skills_do_not_matter(api):
    log, model = small_log(), tracer(api, n_skills=0)
    other = replace(log, skills=2 - log.skills)
    assert torch.equal(said(api, model, log), said(api, model, other))


@check
def training_keeps_the_best_model(api):
    log = small_log(n=40)
    parts = log.of(slice(30)), log.of(slice(30, None))
    options = {"n_items": 6, "n_skills": 3, "kind": "with time", "seed": 0}
    fitted = api.tracing.fit(*parts, steps=40, **options)
    assert fitted.best_step in (20, 40)
    assert np.mean(fitted.losses[-10:]) < np.mean(fitted.losses[:10])
    chance = api.tracing.probabilities(fitted.model, parts[1])
    assert baselines.scores(chance, parts[1].right)["log loss"] < math.log(2)
    with pytest.raises(ValueError, match="kind"):
        api.tracing.Tracer(6, 3, kind="sideways")


# --- baselines -----------------------------------------------------------------------------------


def two_states(api, n_skills=1):
    ones = np.ones(n_skills)
    return api.baselines.TwoStates(0.3 * ones, 0.2 * ones, 0.25 * ones, 0.1 * ones)


@check
def the_forward_algorithm_sums_over_all_paths(api):
    model = two_states(api)
    for answers in itertools.product([False, True], repeat=4):
        right = np.array([answers])
        found = model.forward(np.zeros((1, 4), dtype=int), right)[0]
        for step in range(4):
            assert math.isclose(
                found[step], path_sum((*answers[:step], True)) / path_sum(answers[:step])
            )


def path_sum(answers):
    """The probability of some answers, over all paths of the hidden state."""
    total = 0.0
    for path in itertools.product([0, 1], repeat=len(answers)):
        chance = 1.0
        for step, (state, answer) in enumerate(zip(path, answers, strict=True)):
            if step == 0:
                chance *= 0.3 if state else 0.7
            elif path[step - 1]:
                chance *= 1.0 if state else 0.0
            else:
                chance *= 0.2 if state else 0.8
            is_right = 0.9 if state else 0.25
            chance *= is_right if answer else 1 - is_right
        total += chance
    return total


@check
def skills_do_not_know_of_one_another(api):
    model = two_states(api, 2)
    skills = np.array([[0, 1, 0, 1, 1]])
    right = np.array([[True, False, True, False, True]])
    both = model.forward(skills, right)[0]
    for skill in (0, 1):
        there = skills[0] == skill
        alone = two_states(api).forward(0 * skills[:, there], right[:, there])[0]
        np.testing.assert_allclose(both[there], alone)


@check
def expectation_maximisation_rises_to_the_truth(api):
    generator = np.random.default_rng(0)
    n, length = 800, 12
    knows = generator.random(n) < 0.3
    skills = generator.integers(2, size=(n, length))
    skills[:, ::2] = 0  # rows of different lengths
    state = np.stack([knows, generator.random(n) < 0.3], axis=1)
    right = np.empty((n, length), dtype=bool)
    for step in range(length):
        now = state[np.arange(n), skills[:, step]]
        right[:, step] = generator.random(n) < np.where(now, 0.9, 0.25)
        learned = now | (generator.random(n) < 0.2)
        state[np.arange(n), skills[:, step]] = learned
    log = SimpleNamespace(right=right)
    model, likelihoods = api.baselines.fit_two_states(log, skills, 2, rounds=40)
    assert (np.diff(likelihoods) > -1e-6).all()
    for name, wanted in {"known": 0.3, "learn": 0.2, "guess": 0.25, "slip": 0.1}.items():
        np.testing.assert_allclose(getattr(model, name), wanted, atol=0.08)


@check
def sequences_keep_the_order(api):
    log = small_log()
    skill, right, there = api.baselines.sequences(log, log.skills)
    row = 0
    for learner in range(12):
        for one in sorted(set(log.skills[learner].tolist())):
            mine = log.right[learner][log.skills[learner] == one]
            assert skill[row] == one
            assert there[row].sum() == len(mine)
            assert (right[row][: len(mine)] == mine).all()
            row += 1
    assert row == len(skill)


@check
def counts_are_counted(api):
    log = small_log()
    earlier = np.tri(14, k=-1, dtype=bool)
    found = api.baselines.counts(
        log.skills, log.days, log.skills, log.days, log.right, earlier, (1.0, np.inf)
    )
    for learner, step in itertools.product(range(12), range(14)):
        wanted = [0, 0, 0, 0]
        for j in range(step):
            if log.skills[learner, j] == log.skills[learner, step]:
                lost = 0 if log.right[learner, j] else 1
                wanted[2 + lost] += 1
                wanted[lost] += log.days[learner, step] - log.days[learner, j] <= 1
        np.testing.assert_allclose(found[learner, step], np.log1p(wanted))


@check
def regressions_see_earlier_answers_alone(api):
    log = small_log(n=3)
    right = log.right.copy()
    right[:, 6:] = ~right[:, 6:]
    changed = replace(log, right=right)
    regression = api.baselines.Regression(6, 3, timed=True)
    pairs = api.baselines.Pairs(6)
    for features in (regression._of, pairs.features):
        difference = np.abs((features(log) - features(changed)).toarray()).sum(axis=1)
        difference = difference.reshape(3, 14)
        assert (difference[:, :7] == 0).all()
        assert (difference[:, 8:] > 0).any()


@check
def pairs_fade_with_time(api):
    log = small_log(n=2)
    features = api.baselines.Pairs(6, half_life=3.0).features(log).toarray()
    plain, faded = features[:, -144:-72], features[:, -72:]
    step, wanted, wanted_faded = 9, np.zeros(72), np.zeros(72)
    for j in range(step):
        place = log.items[1, step] * 6 + log.items[1, j] + 36 * log.right[1, j]
        wanted[place] += 1
        wanted_faded[place] += 2 ** (-(log.days[1, step] - log.days[1, j]) / 3)
    np.testing.assert_allclose(plain[14 + step], np.log1p(wanted))
    np.testing.assert_allclose(faded[14 + step], np.log1p(wanted_faded))


@check
def shares_and_scores_are_what_they_say(api):
    log = small_log()
    shares = api.baselines.item_shares(log, log, 6)
    there = log.items == 2
    wanted = (log.right[there].sum() + 1) / (there.sum() + 2)
    np.testing.assert_allclose(shares[there], wanted)
    perfect = np.where(log.right, 0.9, 0.1)
    assert api.baselines.scores(perfect, log.right)["AUC"] == 1
    assert math.isclose(api.baselines.scores(perfect, log.right)["log loss"], -math.log(0.9))


# --- schedules -----------------------------------------------------------------------------------

DIFFICULTY = np.linspace(-1, 1, 16)


@check
def a_course_shows_new_cards_and_reviews_old_ones(api):
    outcome = api.schedules.follow(api.schedules.at_random, 5, DIFFICULTY, seed=0)
    log = outcome.log
    assert log.items.shape == (5, 16 + 2 + 19 * 3)
    for learner in range(5):
        seen = set()
        for day in range(21):
            today = log.items[learner][np.floor(log.days[learner]) == day].tolist()
            new = [card for card in today if card not in seen]
            assert new == [card for card in (2 * day, 2 * day + 1) if card < 16]
            reviewed = today[: len(today) - len(new)]
            assert len(set(reviewed)) == len(reviewed) == min(3, 2 * day)
            seen |= set(today)
    assert (np.diff(log.days, axis=1) > 0).all()
    assert ((outcome.retention > 0) & (outcome.retention < 1)).all()


@check
def learners_of_a_seed_are_the_same_for_all_policies(api):
    abilities = []

    def look(past, day, generator):
        abilities.append(past.learners.ability)
        return generator.random(past.last_seen.shape)

    for _ in range(2):
        api.schedules.follow(look, 5, DIFFICULTY, seed=3)
    assert (abilities[0] == abilities[-1]).all()


@check
def policies_rank_as_they_say(api):
    past = SimpleNamespace(
        last_seen=np.array([[0.0, 4.0, 6.0]]),
        box=np.array([[3, 0, 1]]),
        n_seen=np.array([[4, 1, 2]]),
    )
    module = api.schedules
    assert module.longest_ago(past, 8.0, None)[0].argsort().tolist() == [2, 1, 0]
    # overdue by 8 - 0 - 14, 8 - 4 - 1 and 8 - 6 - 3 days
    np.testing.assert_allclose(module.fixed(past, 8.0, None), [[-6, 3, -1]])
    np.testing.assert_allclose(module.leitner(past, 8.0, None), [[0, 3, 0]])


@check
def a_wrong_answer_sends_a_card_back(api):
    def replay(past, day, generator):
        log = past.log()
        for learner, card in itertools.product(range(4), range(16)):
            mine = log.right[learner][log.items[learner] == card].tolist()
            box = len(list(itertools.takewhile(bool, reversed(mine))))
            assert past.box[learner, card] == box
            assert past.n_seen[learner, card] == len(mine)
        return -past.last_seen

    api.schedules.follow(replay, 4, DIFFICULTY, seed=0)


@check
def dynamic_programming_is_the_best_of_all_plans(api):
    small = api.schedules.Small(n_days=3)

    def best(cards, day):
        if day > 3:
            return np.mean([small.chance(card, small.test_day) for card in cards])
        values = []
        for number in range(2):
            value = 0.0
            for right in (True, False):
                chance = small.chance(cards[number], day)
                part = chance if right else 1 - chance
                changed = list(cards)
                changed[number] = small.after(cards[number], day, right)
                value += part * best(changed, day + 1)
            values.append(value)
        return max(values)

    assert math.isclose(small.value(), best(list(small.begin()), 1))
    for rule in (small.most_forgotten, small.gains_most, lambda cards, day: [0, 1]):
        assert small.value(rule) <= small.value() + 1e-12
    assert small.value(lambda cards, day: [0, 1]) < small.value()


@check
def one_learner_of_the_course_is_the_learner_of_the_small_case(api):
    small = api.schedules.Small()
    world = replace(small.world, n_skills=2, n_items=2)
    learners = simulator.Learners(
        world, np.zeros(1), np.zeros(2), np.zeros((1, 2)), np.full((1, 2), 2.0), np.zeros((1, 2))
    )
    cards = list(small.begin())
    for card in (0, 1):
        learners.practise(np.array([card]), 0.0, np.array([True]))
    for day, (card, right) in enumerate([(0, True), (1, False), (0, False), (0, True)], start=1):
        past = SimpleNamespace(learners=learners)
        gains = api.schedules.gains_most(14.0)(past, float(day), None)[0]
        assert gains.argmax() == small.gains_most(tuple(cards), day)
        for number, one in enumerate(cards):
            chance, after = small.chance(one, day), [small.after(one, day, r) for r in (1, 0)]
            then = [small.chance(later, 14.0) for later in after]
            wanted = chance * then[0] + (1 - chance) * then[1] - small.chance(one, 14.0)
            assert math.isclose(gains[number], wanted)
        least = api.schedules.most_forgotten(past, float(day), None)[0]
        assert least.argmax() == small.most_forgotten(tuple(cards), day)
        learners.practise(np.array([card]), float(day), np.array([right]))
        cards[card] = small.after(cards[card], day, right)
        np.testing.assert_allclose(
            learners.probability(14.0)[0], [small.chance(one, 14.0) for one in cards]
        )


def past_of(api, log, n_cards):
    return api.schedules.Past(
        learners=None,
        last_seen=np.zeros((len(log.items), n_cards)),
        box=None,
        n_seen=None,
        cards=list(log.items.T),
        days=log.days[0].tolist(),
        right=list(log.right.T),
    )


@check
def models_are_asked_about_every_card_after_all_answers(api):
    log = small_log()
    log = replace(log, skills=log.items, days=np.repeat(log.days[:1], 12, axis=0))
    day = float(log.days[0, -1]) + 2
    past = past_of(api, log, 6)
    torch.manual_seed(0)
    model = tracing.Tracer(6, 0, kind="with time", d_model=8, n_heads=2).eval()
    regression = baselines.Regression(6, 0, timed=True).fit(log, log)
    by_attention = api.schedules.by_attention(model)(past, day, None)
    by_regression = api.schedules.by_regression(regression)(past, day, None)
    for card in (0, 4):

        def longer(array, value):
            return np.concatenate([array, np.full((12, 1), value, dtype=array.dtype)], axis=1)

        asked = simulator.Log(
            longer(log.items, card),
            longer(log.skills, card),
            longer(log.days, day),
            longer(log.right, True),
            longer(log.truth, 0.5),
        )
        last = tracing.probabilities(model, asked)[:, -1]
        np.testing.assert_allclose(by_attention[:, card], -np.log(last / (1 - last)), atol=1e-4)
        last = regression.probabilities(asked)[:, -1]
        np.testing.assert_allclose(by_regression[:, card], -np.log(last / (1 - last)), atol=1e-8)


@check
def nearest_to_a_threshold_comes_first(api):
    chance = np.array([[0.1, 0.5, 0.62, 0.9]])

    def policy(past, day, generator):
        return -np.log(chance / (1 - chance))

    for threshold, order in ((0.6, [2, 1, 3, 0]), (0.8, [3, 2, 1, 0])):
        urgent = api.experiment.near(policy, threshold)(None, 0.0, None)
        assert urgent[0].argsort()[::-1].tolist() == order


# --- plan ----------------------------------------------------------------------------------------

START = date(2030, 1, 7)  # a Monday
CHAPTERS = [f"chapter {number}" for number in range(12)]


@check
def gaps_grow_to_a_fifth_of_the_time(api):
    assert api.plan.review_gaps(60) == [1, 2, 5, 12]
    assert api.plan.review_gaps(1) == [1]
    for keep_for in range(1, 400):
        gaps = api.plan.review_gaps(keep_for)
        assert gaps == sorted(gaps)
        assert gaps[0] == 1
        assert gaps[-1] == max(1, round(0.2 * keep_for))
    for wrong in ({"keep_for": 0}, {"keep_for": 9, "share": 0}, {"keep_for": 9, "growth": 1}):
        with pytest.raises(ValueError, match=r"keep_for|share"):
            api.plan.review_gaps(**wrong)


@check
def a_plan_keeps_its_promises(api):
    for a_day, rest, most in ((1, (), 4), (2, (6,), 3), (3, (5, 6), 1)):
        entries = api.plan.reading_plan(
            START, CHAPTERS, a_day=a_day, keep_for=60, rest=rest, most_reviews=most
        )
        assert entries == sorted(entries, key=lambda entry: entry.day)
        read = [entry for entry in entries if entry.kind == "read"]
        assert [entry.chapter for entry in read] == CHAPTERS
        days = {}
        for entry in entries:
            assert entry.day.weekday() not in rest
            days.setdefault((entry.day, entry.kind), []).append(entry)
        for (_, kind), todo in days.items():
            assert len(todo) <= (a_day if kind == "read" else most)
        for chapter in CHAPTERS:
            mine = [entry for entry in entries if entry.chapter == chapter]
            assert [entry.round for entry in mine] == [0, 1, 2, 3, 4]
            for gap, (last, now) in zip([1, 2, 5, 12], itertools.pairwise(mine), strict=True):
                assert now.day - last.day >= timedelta(gap)
    free = api.plan.reading_plan(START, CHAPTERS[:1], keep_for=60)
    assert [(entry.day - START).days for entry in free] == [0, 1, 3, 8, 20]


@check
def a_plan_that_cannot_be_is_refused(api):
    for chapters, wrong in (
        (CHAPTERS, {"a_day": 0}),
        (CHAPTERS, {"most_reviews": 0}),
        (CHAPTERS, {"rest": range(7)}),
        (["one", "one"], {}),
    ):
        with pytest.raises(ValueError, match=r"a_day|rest|chapters"):
            api.plan.reading_plan(START, chapters, **wrong)


BROKEN = {
    # those that only the slow checks catch come first
    "nothing is kept": ("tracing", "if found < best:", "if found > best:"),
    "residuals too small": ("forgetting", "/ np.sqrt(1 - 2 / len(minutes))", ""),
    "padding counts": ("baselines", "posterior[..., 1] * there", "posterior[..., 1]"),
    "the strongest first": (
        "schedules",
        "return -log_odds.double().numpy()",
        "return log_odds.double().numpy()",
    ),
    "natural logarithm": ("forgetting", "np.log10(t) ** c", "np.log(t) ** c"),
    "fit to minus the points": ("forgetting", "*p) - savings", "*p) + savings"),
    "left-out point is fitted": (
        "forgetting",
        "others = np.arange(len(minutes)) != i",
        "others = np.arange(len(minutes)) >= 0",
    ),
    "memory as if nothing was left": (
        "simulator",
        "present + world.gain * (1 - present)",
        "present + world.gain",
    ),
    "what was there is lost": (
        "simulator",
        "present + world.gain * (1 - present)",
        "world.gain * (1 - present)",
    ),
    "what is present grows most": ("simulator", "growth * (1 - kept))", "growth * kept)"),
    "right and wrong exchanged": (
        "simulator",
        "np.where(right, world.growth_right, world.growth_wrong)",
        "np.where(right, world.growth_wrong, world.growth_right)",
    ),
    "the first practice grows": ("simulator", "np.where(first, 1.0, 1 + growth", "(1 + growth"),
    "e in place of two": (
        "simulator",
        "return 2.0 ** (-elapsed / self.half_life)",
        "return np.exp(-elapsed / self.half_life)",
    ),
    "a copy shares its memory": ("simulator", "memory=self.memory.copy()", "memory=self.memory"),
    "answers too often right": (
        "simulator",
        "generator.random(n_learners) < truth",
        "generator.random(n_learners) ** 2 < truth",
    ),
    "the answer leaks": ("tracing", "tril(diagonal=-1)", "tril(diagonal=0)"),
    "the last answer is not seen": ("tracing", "tril(diagonal=-1)", "tril(diagonal=-2)"),
    "older answers weigh more": (
        "tracing",
        "-F.softplus(self.rate)[:, None, None]",
        "F.softplus(self.rate)[:, None, None]",
    ),
    "time stands still": ("tracing", "torch.log1p(24 * days)", "torch.log1p(0 * days)"),
    "equal weights are learned": ("tracing", "query = 0 * query", "query = query"),
    "hidden skills are used": (
        "tracing",
        "return asked + self.skill(skills) if self.skilled else asked",
        "return asked + self.skill(skills)",
    ),
    "learns before it answers": (
        "baselines",
        "before = knows[rows, skill]",
        "before = knows[rows, skill] + (1 - knows[rows, skill]) * self.learn[skill]",
    ),
    "all skills are one": (
        "baselines",
        "knows[rows, skill] = after",
        "knows[rows, 0] = after",
    ),
    "answers in reverse": (
        "baselines",
        "np.arange(n * length) - np.repeat(begins, counts)",
        "np.repeat(begins + counts, counts) - 1 - np.arange(n * length)",
    ),
    "windows the wrong way": ("baselines", "since <= window", "since >= window"),
    "regression sees the answer": (
        "baselines",
        "self.features(log, log, np.tri(length, k=-1, dtype=bool))",
        "self.features(log, log, np.tri(length, k=0, dtype=bool))",
    ),
    "pairs grow with time": ("baselines", "2 ** (-since", "2 ** (since"),
    "no one right and wrong added": ("baselines", "(right + 1) / (asked + 2)", "right / asked"),
    "cards before they are new": (
        "schedules",
        "np.where(past.n_seen > 0, urgent, -np.inf)",
        "urgent",
    ),
    "other people for each policy": (
        "schedules",
        "(np.random.default_rng((seed, number)) for number in (3, 4))",
        "(np.random.default_rng() for number in (3, 4))",
    ),
    "longer gaps are more urgent": (
        "schedules",
        "past.last_seen - gap",
        "past.last_seen + gap",
    ),
    "a wrong answer is forgiven": (
        "schedules",
        "np.where(right, past.box[rows, card] + 1, 0)",
        "past.box[rows, card] + 1",
    ),
    "the worst plan": ("schedules", "return max(map(of,", "return min(map(of,"),
    "the gain is a sum": ("schedules", "- without[:, card]", "+ 9 * without[:, card]"),
    "the threshold as log-odds": ("experiment", "np.log(threshold / (1 - threshold))", "threshold"),
    "gaps shrink by days": ("plan", "gaps[0] / growth", "gaps[0] - growth"),
    "no rest for reviews": (
        "plan",
        "day = _free(last + timedelta(gap), rest)",
        "day = last + timedelta(gap)",
    ),
    "one review too many": ("plan", ">= most_reviews", "> most_reviews"),
    "moved reviews shorten the next gap": (
        "plan",
        "waiting.append((day, chapter))",
        "waiting.append((last + timedelta(gap), chapter))",
    ),
    "a chapter twice": ("plan", "len(set(chapters)) < len(chapters)", "not chapters"),
}


class TestLearning(ZooTests):
    zoo = Zoo(CHECKS, rewritten(MODULES, BROKEN), BROKEN)
