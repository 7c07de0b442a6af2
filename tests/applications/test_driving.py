"""Cars at a crossing: the simulator against brute force, nothing leaks, each mistake is caught."""

import numpy as np
import pytest
import torch

from attn_tutorial.applications.driving import data as driving_data
from attn_tutorial.applications.driving import experiment as driving
from attn_tutorial.applications.driving import models as driving_models
from attn_tutorial.attribution import uniform_weights
from package.zoo import Zoo, ZooTests, rewritten

MODULES = {"data": driving_data, "models": driving_models, "fitting": driving}
NOW, FUTURE = driving_data.NOW, driving_data.FUTURE
USERS = driving_data.draw_users(24, 2, 6, 0)
SCENES = driving_data.simulate(USERS)
GIVEN = driving_data.examples(SCENES)
EAST, WEST, NORTH, SOUTH = range(4)

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def one_scene(*cars):
    """A scene from (lane, place, speed) of each car; who is wanted to drive 12 m/s."""
    lane, place, speed = np.zeros((3, 1, driving_data.MOST_USERS))
    for number, car in enumerate(cars):
        lane[0, number], place[0, number], speed[0, number] = car
    there = np.arange(driving_data.MOST_USERS)[None] < len(cars)
    return driving_data.Users(there, lane.astype(int), place, speed, np.full(lane.shape, 12.0))


def large(api, **options):
    """An untrained forecaster with large weights, so that its attention is far from equal."""
    torch.manual_seed(0)
    model = api.models.Forecaster(**options)
    if model.attention is not None:
        with torch.no_grad():
            model.attention.query.weight *= 30
    return model.eval()


# --- the simulator ---------------------------------------------------------------------------


@check
def following_by_closed_forms(api):
    data = api.data
    speed, wanted = np.array([0.0, 12, 9]), np.full(3, 12.0)
    free = data.follow(speed, wanted, np.full(3, np.inf), speed)
    np.testing.assert_allclose(free[:2], [data.ACCELERATION, 0], atol=1e-9)
    # In equilibrium behind a car that is as fast.
    gap = (data.LEAST_GAP + data.TIME_GAP * 9) / np.sqrt(1 - (9 / 12) ** 4)
    assert abs(data.follow(9.0, 12.0, gap, 9.0)) < 1e-9
    assert data.follow(9.0, 12.0, gap, 5.0) < -0.5 < 0 < data.follow(9.0, 12.0, gap, 12.0)
    assert data.follow(12.0, 12.0, 1.0, 0.0) == -data.HARDEST


@check
def the_car_in_front_by_brute_force(api):
    gaps, speeds = api.data.in_front(USERS)
    for scene, user in zip(*USERS.there.nonzero(), strict=True):
        best, its_speed = np.inf, USERS.speed[scene, user]
        for other in range(USERS.there.shape[1]):
            ahead = USERS.place[scene, other] - USERS.place[scene, user]
            one_lane = USERS.lane[scene, other] == USERS.lane[scene, user]
            if USERS.there[scene, other] and one_lane and 0 < ahead < best:
                best, its_speed = ahead, USERS.speed[scene, other]
        assert gaps[scene, user] == max(best - driving_data.LENGTH, 0.1)
        assert speeds[scene, user] == its_speed


@check
def who_waits_for_whom(api):
    found = api.data.gives_way(one_scene((EAST, -20, 10), (NORTH, -20, 10), (SOUTH, -20, 10)))
    assert np.argwhere(found[0]).tolist() == [[1, 0], [2, 0]]
    # Who has left is no reason to wait, nor who is far, nor who drives on the same road.
    for car in ((EAST, 9, 10), (EAST, -70, 10), (SOUTH, -20, 10)):
        assert not api.data.gives_way(one_scene(car, (NORTH, -20, 10))).any()
    # Who can no longer stop, does not.
    assert not api.data.gives_way(one_scene((EAST, -8, 10), (NORTH, -8, 12))).any()


@check
def a_waiting_car_stops_at_the_line_and_goes_on(api):
    queue = [(EAST, -15 - 16 * i, 9) for i in range(4)]
    places = api.data.simulate(one_scene((NORTH, -30, 10), *queue), 150).places[:, 0, 0]
    standing = np.flatnonzero(np.diff(places) < 0.01)
    assert len(standing) > 5
    assert -8.5 < places[standing[-1]] < -7.5
    assert places[-1] > 10


@check
def cars_keep_apart(api):
    scenes = api.data.simulate(driving_data.draw_users(100, 4, 8, 1), 70)
    lane, there = scenes.users.lane, scenes.users.there
    pair = there[:, :, None] & there[:, None] & ~np.eye(8, dtype=bool)
    one_lane = pair & (lane[:, :, None] == lane[:, None])
    where = np.stack([api.data.positions(scenes.at(i)) for i in range(71)])
    apart = np.linalg.norm(where[:, :, :, None] - where[:, :, None], axis=-1).min(axis=0)
    assert apart[one_lane].min() > 4
    crashed = ((apart < 2.5) & pair).any(axis=(1, 2)).mean()
    assert crashed < 0.01  # who can no longer stop drives on
    assert (np.diff(scenes.places, axis=0) >= 0).all()


@check
def who_is_not_there_is_in_nobodys_way(api):
    moved = USERS._replace(place=np.where(USERS.there, USERS.place, -30.0), lane=USERS.lane)
    places = api.data.simulate(moved).places
    np.testing.assert_array_equal(places[:, USERS.there], SCENES.places[:, USERS.there])
    found = api.data.examples(SCENES)
    assert len(found.own) == USERS.there.sum()
    assert not found.others[~found.there].any()
    assert (found.there.sum(axis=1) == USERS.there.sum(axis=1)[found.scene] - 1).all()


@check
def influence_by_driving_again(api):
    found = api.data.influence(SCENES)
    users = SCENES.at(NOW)
    # The moment says all: driving on from it is what had happened.
    on = driving_data.simulate(users, FUTURE).places[-1]
    np.testing.assert_array_equal(on, SCENES.places[NOW + FUTURE])
    for scene in range(2):
        for taken in np.flatnonzero(users.there[scene]):
            rest = [i for i in np.flatnonzero(users.there[scene]) if i != taken]
            alone = driving_data.Users(*(part[scene : scene + 1, rest] for part in users))
            reached = driving_data.simulate(alone, FUTURE).places[-1, 0]
            wanted = reached - SCENES.places[NOW + FUTURE, scene, rest]
            np.testing.assert_allclose(found[scene, rest, taken], wanted, atol=1e-9)
    given = api.data.influence_on(GIVEN, SCENES)
    row = 17
    for slot, other in enumerate(GIVEN.other[row]):
        assert given[row, slot] == found[GIVEN.scene[row], GIVEN.user[row], other]
    assert np.abs(given).max() > 5


@check
def examples_by_brute_force(api):
    found = api.data.examples(SCENES)
    where = [driving_data.positions(SCENES.at(i)) for i in range(len(SCENES.places))]
    for row in range(0, len(found.own), 9):
        scene, user = found.scene[row], found.user[row]
        speeds, places = SCENES.speeds[:, scene], SCENES.places[:, scene]
        back = [speeds[NOW, user] - speeds[NOW - steps, user] for steps in (2, 4, 6, 8, 10)]
        priority = float(USERS.lane[scene, user] in (EAST, WEST))
        own = [speeds[NOW, user], *back, places[NOW, user], priority]
        np.testing.assert_allclose(found.own[row], own, atol=1e-4)
        x, y = driving_data.DIRECTIONS[USERS.lane[scene, user]]
        for slot, other in enumerate(i for i in range(8) if i != user):
            if not USERS.there[scene, other]:
                continue
            away = where[NOW][scene, other] - where[NOW][scene, user]
            heading = driving_data.DIRECTIONS[USERS.lane[scene, other]]
            vectors = [away, speeds[NOW, other] * heading, speeds[NOW - 10, other] * heading]
            seen = [part for a, b in vectors for part in (a * x + b * y, b * x - a * y)]
            seen += [places[NOW, other], float(USERS.lane[scene, other] in (EAST, WEST))]
            np.testing.assert_allclose(found.others[row, slot], seen, atol=1e-4)
        for number, steps in enumerate((5, 10, 15, 20, 25, 30)):
            beyond = places[NOW + steps, user] - places[NOW, user] - speeds[NOW, user] * steps / 10
            assert found.future[row, number] == pytest.approx(beyond, abs=1e-3)


@check
def nothing_of_the_future_is_seen(api):
    places, speeds = SCENES.places.copy(), SCENES.speeds.copy()
    for part in (places, speeds):
        part[NOW + 1 :] += 50
        part[: NOW - driving_data.HISTORY] -= 50
    found = api.data.examples(SCENES._replace(places=places, speeds=speeds))
    np.testing.assert_array_equal(found.own, GIVEN.own)
    np.testing.assert_array_equal(found.others, GIVEN.others)
    assert (found.future != GIVEN.future).all()


# --- the forecasters -------------------------------------------------------------------------


@check
def padding_says_nothing(api):
    changed = GIVEN._replace(others=np.where(GIVEN.there[..., None], GIVEN.others, 77.0))
    for kind, attends in {
        "attention": True,
        "equal weights": True,
        "largest of all": False,
    }.items():
        model = large(api, attends=attends)
        np.testing.assert_allclose(
            api.fitting.forecast(kind, model, changed),
            api.fitting.forecast(kind, model, GIVEN),
            atol=1e-5,
        )


@check
def the_order_of_the_others_does_not_matter(api):
    order = np.random.default_rng(0).permutation(7)
    mixed = GIVEN._replace(others=GIVEN.others[:, order], there=GIVEN.there[:, order])
    for attends in (True, False):
        model = large(api, attends=attends)
        said = api.fitting.forecast("attention", model, GIVEN)
        np.testing.assert_allclose(api.fitting.forecast("attention", model, mixed), said, atol=1e-4)
    model = large(api)
    weights = api.fitting.weights_of(model, GIVEN)
    np.testing.assert_allclose(
        api.fitting.weights_of(model, mixed), weights[:, [0, *(1 + order)]], atol=1e-4
    )


@check
def weights_lie_on_who_is_there_and_on_itself(api):
    model = large(api)
    weights = api.fitting.weights_of(model, GIVEN)
    may = np.column_stack([np.ones(len(weights), dtype=bool), GIVEN.there])
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-5)
    assert (weights[may] > 0).all()
    assert not weights[~may].any()
    assert np.ptp(weights[GIVEN.there.sum(axis=1) == 5]) > 0.3
    heads = model(*api.fitting.tensors("attention", GIVEN)[:3], need_weights=True)[1]
    assert heads.shape == (len(GIVEN.own), driving_models.N_HEADS, 8)
    np.testing.assert_allclose(weights, heads.detach().mean(dim=1), atol=1e-6)


@check
def the_own_state_asks(api):
    """Which of two others gets more weight depends on who asks."""
    model = large(api)
    two = GIVEN.there.sum(axis=1) >= 2
    given = GIVEN._replace(own=GIVEN.own[two], others=GIVEN.others[two], there=GIVEN.there[two])
    standing = given._replace(own=given.own * np.float32([0, 1, 1, 1, 1, 1, 1, 1]))
    ratios = []
    for one in (given, standing):
        weights = api.fitting.weights_of(model, one)[:, 1:]
        ratios.append(
            np.log([row[there][:2] for row, there in zip(weights, one.there, strict=True)])
        )
    change = np.diff(ratios[0], axis=1) - np.diff(ratios[1], axis=1)
    assert np.abs(change).mean() > 0.01


@check
def the_largest_by_brute_force(api):
    model = large(api, attends=False)
    own, others, there, _ = api.fitting.tensors("largest of all", GIVEN)
    with torch.no_grad():
        said, _ = model(own, others, there)
        for row in range(0, len(own), 11):
            asks = model.own(own[row] / driving_models.SCALE_OWN)
            answers = model.others(others[row, there[row]] / driving_models.SCALE_OTHERS)
            heard = torch.cat([asks[None], answers]).max(dim=0).values
            wanted = 10 * model.say(torch.cat([asks, heard]))
            torch.testing.assert_close(said[row], wanted, atol=1e-4, rtol=1e-4)


@check
def equal_weights_are_used(api):
    model = large(api)
    plain = api.fitting.forecast("attention", model, GIVEN)
    equal = api.fitting.forecast("equal weights", model, GIVEN)
    assert np.abs(plain - equal).max() > 0.1
    with uniform_weights(model):
        np.testing.assert_array_equal(api.fitting.forecast("attention", model, GIVEN), equal)


@check
def the_nearest_and_nobody(api):
    found = api.fitting.nearest(GIVEN)
    for row in range(len(found)):
        distances = np.linalg.norm(GIVEN.others[row, :, :2], axis=1)
        candidates = np.flatnonzero(GIVEN.there[row])
        assert found[row].nonzero()[0] == candidates[distances[candidates].argmin()]
    assert not api.fitting.seen_by("no other car", GIVEN).any()
    np.testing.assert_array_equal(api.fitting.seen_by("attention", GIVEN), GIVEN.there)
    np.testing.assert_array_equal(api.fitting.seen_by("nearest car only", GIVEN), found)


@check
def looks_and_scores_by_hand(api):
    there = np.array([[True, True], [True, True], [True, False]])
    others = np.zeros((3, 2, 8))
    others[:, :, 1] = [[5, 9], [9, 5], [5, 0]]
    given = GIVEN._replace(there=there, others=others)
    weights = np.array([[0.2, 0.7, 0.1], [0.5, 0.3, 0.2], [0.4, 0.6, 0]])
    effect = np.array([[-3.0, 2], [4, 0], [0.5, 0]])
    np.testing.assert_array_equal(api.fitting.in_conflict(-effect), [True, True, False])
    np.testing.assert_array_equal(api.fitting.in_conflict(np.array([[-2.0, 0]])), [True])
    found = api.fitting.look(weights, effect, given)
    wanted = [0.5, 0.45, 0.35, 1 / 3, 1.0, 0.5, 0.5]
    np.testing.assert_allclose(list(found.values()), wanted)
    parts = {
        "test": GIVEN._replace(future=np.array([[0.0, 0], [0, 1]])),
        "more cars": GIVEN._replace(future=np.array([[5.0, 3]])),
    }
    said = {"test": np.array([[1.0, 2], [0, 5]]), "more cars": np.zeros((1, 2))}
    scores = api.fitting.scores(said, parts, np.array([False, True]))
    assert list(scores.values()) == [3, 7 / 4, 4, 2, 3]


@check
def what_a_model_believes(api):
    class Adding(torch.nn.Module):
        def forward(self, own, others, there):
            return (others[..., :1] * there[..., None]).sum(dim=1), None

    found = api.fitting.believed("attention", Adding(), GIVEN)
    np.testing.assert_allclose(found, -GIVEN.others[..., 0], atol=1e-4)
    assert api.fitting.agreement(found, -found, GIVEN.there) == pytest.approx(-1)


BROKEN = {
    "braking turned round": ("data", "(speed - front_speed)", "(front_speed - speed)"),
    "a car behind in front": ("data", "one_lane & (ahead > 0)", "one_lane & (ahead < 0)"),
    "cars not there are followed": ("data", "& users.there[:, None, :], ahead", ", ahead"),
    "priority turned round": ("data", "~has_priority[:, :, None] & has_priority[:, None, :]",
                              "has_priority[:, :, None] & ~has_priority[:, None, :]"),
    "waiting for who is far": ("data", "< has_left + MARGIN", "< has_left + 99"),
    "nobody waits": ("data", "np.where(waits,", "np.where(waits & False,"),
    "the roles of an influence swapped": ("data", "found[:, :, taken] =", "found[:, taken] ="),
    "left is right": ("data", "[-ahead[:, 1], ahead[:, 0]]", "[ahead[:, 1], -ahead[:, 0]]"),
    "the future is seen": ("data", "scenes.at(NOW), scenes.at", "scenes.at(NOW + 2), scenes.at"),
    "the last second backwards": ("data", "[::-1, scene, user]", "[:, scene, user]"),
    "padding is filled": ("data", "others * there[..., None]", "others + 0 * there[..., None]"),
    "the mask turned round": ("models", "mask=may[", "mask=~may["),
    "nobody asks": ("models", "asks, answers, mask", "0 * asks, answers, mask"),
    "a car that does not hear itself": ("models", "ones_like(there", "zeros_like(there"),
    "the largest of padding": ("models", "~may[..., None], -torch.inf", "~may[..., None], 0.0"),
    "answers that run into one another": ("models", "/ SCALE_OTHERS)], dim=1)",
                                          "/ SCALE_OTHERS).cumsum(dim=1)], dim=1)"),
    "one head for all": ("fitting", "weights.mean(dim=1)", "weights[:, 0]"),
    "equal weights that are none": ("fitting", 'if kind == "equal weights" else',
                                    'if kind == "equal" else'),
    "the farthest": ("fitting", "distance.argmin(", "distance.argmax("),
    "the weight of the neighbour": ("fitting", "[rows, 1 + matters]", "[rows, matters]"),
    "only who holds up": ("fitting", "np.abs(effect).max(axis=1) >", "effect.max(axis=1) >"),
    "the first moment as the final": ("fitting", '["test"][:, -1]', '["test"][:, 0]'),
    "beliefs turned round": ("fitting", "without - said", "said - without"),
}  # fmt: skip


class TestDriving(ZooTests):
    zoo = Zoo(CHECKS, rewritten(MODULES, BROKEN), BROKEN)


def test_the_parts_share_no_scene():
    seeds = [seed for *_, seed in driving_data.PARTS.values()]
    assert len(set(seeds)) == len(seeds)
    begins = []
    for n_scenes, fewest, most, seed in driving_data.PARTS.values():
        users = driving_data.draw_users(n_scenes, fewest, most, seed)
        counts = users.there.sum(axis=1)
        assert (counts.min(), counts.max()) == (fewest, most)
        begins.append(users.place)
    begins = np.concatenate(begins)
    assert len(np.unique(begins.round(6), axis=0)) == len(begins)


def test_training_is_a_function_of_the_seed_and_lowers_the_loss():
    batch = driving.tensors("attention", GIVEN)
    for kind in ("attention", "largest of all"):
        one, same, other = (
            driving.fit(kind, GIVEN, seed, steps=steps)
            for seed, steps in ((1, 25), (1, 25), (2, 1))
        )
        weights = [model.say[0].weight for model in (one, same, other)]
        assert torch.equal(weights[0], weights[1])
        assert not torch.equal(weights[0], weights[2])
        with torch.no_grad():
            assert driving.loss(one, *batch) < 0.7 * driving.loss(other, *batch)


def test_ridge_knows_products():
    given = GIVEN._replace(future=GIVEN.own[:, :2] * GIVEN.own[:, 6:7])
    ridge = driving.fit_ridge(given, degree=2, penalty=1e-6)
    found = ridge.predict(given.own.astype(float))
    np.testing.assert_allclose(found, given.future, atol=0.5)


RAISES = {
    "cars": (
        lambda: driving_data.draw_users(5, 1, 9, 0),
        r"fewest and most must lie between 2 and 8; got 1 and 9",
    ),
    "steps": (
        lambda: driving_data.simulate(USERS, -1),
        r"n_steps must not be negative; got -1",
    ),
    "short": (
        lambda: driving_data.examples(driving_data.simulate(USERS, 40)),
        r"scenes must have 60 steps; got 40",
    ),
    "kind": (
        lambda: driving.seen_by("all", GIVEN),
        r"kind must be one of \('attention', .*\); got 'all'",
    ),
    "weights": (
        lambda: driving.weights_of(driving_models.Forecaster(attends=False), GIVEN),
        r"need_weights: this forecaster has no attention",
    ),
}


@pytest.mark.parametrize("name", RAISES)
def test_errors_say_what_is_wrong(name):
    call, message = RAISES[name]
    with pytest.raises(ValueError, match=message):
        call()
