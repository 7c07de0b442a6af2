"""A crossing of two roads with a few cars: a simulator, and what a forecaster sees of it.

The road from west to east has priority. Cars follow the car in front of them by the intelligent
driver model; who comes from south or north waits at a line until the cars of the other road leave
a gap. All drive straight on. A simulator can be asked who made whom wait: take a car out, and drive
on from the same moment.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

# Lanes: eastward, westward (both with priority), northward, southward. Right-hand traffic.
DIRECTIONS = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
OFFSETS = np.array([[0.0, -2.0], [0.0, 2.0], [2.0, 0.0], [-2.0, 0.0]])  # metres
# At which place along lane i it crosses lane j; places are counted from the middle.
CROSSINGS = np.array(
    [
        [np.nan, np.nan, 2.0, -2.0],
        [np.nan, np.nan, -2.0, 2.0],
        [-2.0, 2.0, np.nan, np.nan],
        [2.0, -2.0, np.nan, np.nan],
    ]
)
HAS_PRIORITY = np.array([True, True, False, False])
STOP_LINE, LENGTH = -6.0, 5.0  # metres
TIME_STEP = 0.1  # seconds
NOW, HISTORY, FUTURE = 30, 10, 30  # steps: seen is the last second, forecast are three
SEEN_EVERY, SAID_EVERY = 2, 5  # steps

# The intelligent driver model: acceleration and braking (m/s²), time and distance to the front.
ACCELERATION, BRAKING, TIME_GAP, LEAST_GAP = 1.5, 2.0, 1.2, 2.0
HARDEST = 8.0  # m/s²
MARGIN = 1.0  # seconds between two cars at a crossing point
MOST_USERS = 8

# Scenes, fewest cars, most cars, and the seed of the generator. None was looked at before.
PARTS = {
    "training": (3000, 2, 5, 2026),
    "validation": (1000, 2, 5, 2027),
    "test": (1500, 2, 5, 2028),
    "more cars": (800, 6, 8, 2029),
}

PerUser = Float[np.ndarray, "n_scenes n_users"]
PerPair = Float[np.ndarray, "n_scenes n_users n_users"]


class Users(NamedTuple):
    """The cars of many scenes at one moment; a scene with fewer cars is filled up.

    Attributes
    ----------
    there : bool array, shape (n_scenes, n_users)
    lane : int array, shape (n_scenes, n_users)
    place, speed, wanted : float arrays, shape (n_scenes, n_users)
        Along the lane, from the middle of the crossing (m); how fast, and how fast on a free road
        (m/s).
    """

    there: Bool[np.ndarray, "n_scenes n_users"]
    lane: Int[np.ndarray, "n_scenes n_users"]
    place: PerUser
    speed: PerUser
    wanted: PerUser


class Scenes(NamedTuple):
    """What happened: the cars at the beginning, and where they were after each step.

    Attributes
    ----------
    users : Users
    places, speeds : float arrays, shape (n_steps + 1, n_scenes, n_users)
    """

    users: Users
    places: Float[np.ndarray, "n_moments n_scenes n_users"]
    speeds: Float[np.ndarray, "n_moments n_scenes n_users"]

    def at(self, moment: int) -> Users:
        """The cars as they are after so many steps."""
        return self.users._replace(place=self.places[moment], speed=self.speeds[moment])


def draw_users(n_scenes: int, fewest: int, most: int, seed: int) -> Users:
    """Scenes with a number of cars between two numbers, at places and speeds drawn at random.

    Raises
    ------
    ValueError
        Where the numbers of cars do not lie between 2 and 8.
    """
    if not 2 <= fewest <= most <= MOST_USERS:
        raise ValueError(
            f"fewest and most must lie between 2 and {MOST_USERS}; got {fewest} and {most}"
        )
    generator = np.random.default_rng(seed)
    shape = (n_scenes, MOST_USERS)
    counts = generator.integers(fewest, most + 1, n_scenes)
    lane = generator.integers(0, len(DIRECTIONS), shape)
    # Cars of a scene begin nine metres apart or more: each has its own stretch of its lane.
    stretch = generator.permuted(np.tile(np.arange(MOST_USERS), (n_scenes, 1)), axis=1)
    place = -90 + 11 * stretch + generator.uniform(0, 2, shape)
    wanted = generator.uniform(8, 15, shape)
    return Users(
        there=np.arange(MOST_USERS) < counts[:, None],
        lane=lane,
        place=place,
        speed=wanted * generator.uniform(0.7, 1.0, shape),
        wanted=wanted,
    )


def positions(users: Users) -> Float[np.ndarray, "n_scenes n_users 2"]:
    """Metres to the east and to the north of the middle of the crossing."""
    return OFFSETS[users.lane] + users.place[..., None] * DIRECTIONS[users.lane]


def in_front(users: Users) -> tuple[PerUser, PerUser]:
    """How far it is to the car in front in the own lane, and how fast that car is.

    Returns
    -------
    gap, speed : float arrays, shape (n_scenes, n_users)
        Infinity, and the own speed, where nobody is in front.
    """
    ahead = users.place[:, None, :] - users.place[:, :, None]  # (n_scenes, who, in front)
    one_lane = users.lane[:, None, :] == users.lane[:, :, None]
    ahead = np.where(one_lane & (ahead > 0) & users.there[:, None, :], ahead, np.inf)
    nearest = ahead.argmin(axis=2)
    gap = np.take_along_axis(ahead, nearest[..., None], axis=2)[..., 0]
    speed = np.take_along_axis(users.speed, nearest, axis=1)
    return np.maximum(gap - LENGTH, 0.1), np.where(np.isfinite(gap), speed, users.speed)


def gives_way(users: Users) -> Bool[np.ndarray, "n_scenes n_users n_users"]:
    """Which car has to wait for which other: no gap is left between them at their crossing point.

    Returns
    -------
    bool array, shape (n_scenes, who waits, for whom)
    """
    own = CROSSINGS[users.lane[:, :, None], users.lane[:, None, :]]  # where i crosses j, along i
    other = np.swapaxes(own, 1, 2)  # along j
    speed = np.maximum(users.speed, 3.0)  # a waiting car would start
    arrives = (own - users.place[:, :, None]) / speed[:, :, None]
    has_left = arrives + LENGTH / speed[:, :, None]
    others_arrive = (other - users.place[:, None, :]) / speed[:, None, :]
    others_have_left = others_arrive + LENGTH / speed[:, None, :]
    with np.errstate(invalid="ignore"):
        collide = (
            (others_have_left > 0)
            & (others_arrive < has_left + MARGIN)
            & (others_have_left > arrives - MARGIN)
        )
    has_priority = HAS_PRIORITY[users.lane]
    must = ~has_priority[:, :, None] & has_priority[:, None, :]
    both = users.there[:, :, None] & users.there[:, None, :]
    to_line = STOP_LINE - users.place
    can = (to_line > 0) & (users.speed**2 / (2 * np.maximum(to_line, 0.1)) < HARDEST)
    return must & both & collide & can[:, :, None]


def follow(speed: PerUser, wanted: PerUser, gap: PerUser, front_speed: PerUser) -> PerUser:
    """The acceleration of the intelligent driver model, at most as hard as one can brake.

    Parameters
    ----------
    speed, wanted, gap, front_speed : float arrays of one shape
        The own speed and that on a free road, the gap to the car in front, and its speed.

    Returns
    -------
    float array, of the same shape
        In m/s².

    References
    ----------
    Treiber, Hennecke and Helbing (2000), "Congested Traffic States in Empirical Observations and
    Microscopic Simulations", Physical Review E 62.
    """
    closing = speed * (speed - front_speed) / (2 * np.sqrt(ACCELERATION * BRAKING))
    desired = LEAST_GAP + np.maximum(speed * TIME_GAP + closing, 0)
    acceleration = ACCELERATION * (1 - (speed / wanted) ** 4 - (desired / gap) ** 2)
    return np.maximum(acceleration, -HARDEST)


def step(users: Users) -> Users:
    """The cars a tenth of a second later."""
    acceleration = follow(users.speed, users.wanted, *in_front(users))
    # Who has to wait treats the line like the end of a queue, and stops two metres before it.
    to_line = np.maximum(STOP_LINE - users.place, 0.1)
    stopping = follow(users.speed, users.wanted, to_line, np.zeros_like(users.speed))
    waits = gives_way(users).any(axis=2)
    acceleration = np.where(waits, np.minimum(acceleration, stopping), acceleration)
    speed = np.maximum(users.speed + TIME_STEP * acceleration, 0)
    return users._replace(place=users.place + TIME_STEP * (users.speed + speed) / 2, speed=speed)


def simulate(users: Users, n_steps: int = NOW + FUTURE) -> Scenes:
    """Drive for some steps.

    Raises
    ------
    ValueError
        Where the number of steps is negative.
    """
    if n_steps < 0:
        raise ValueError(f"n_steps must not be negative; got {n_steps}")
    moments = [users]
    for _ in range(n_steps):
        moments.append(step(moments[-1]))
    return Scenes(
        users,
        np.stack([moment.place for moment in moments]),
        np.stack([moment.speed for moment in moments]),
    )


class Examples(NamedTuple):
    """What a forecaster sees of every car in turn, and what it should say.

    Attributes
    ----------
    own : float32 array, shape (n, 8)
        The car's speed, how much faster it is than 0.2, 0.4, …, 1 seconds ago, its place along the
        lane, and whether it has priority.
    others : float32 array, shape (n, 7, 8)
        Each other car, seen from this one: how far ahead and to the left; its speed ahead and to
        the left, now and one second ago; its place along its lane, and whether it has priority.
    there : bool array, shape (n, 7)
        Which of the others exist.
    future : float32 array, shape (n, 6)
        How much farther than with constant speed the car gets in 0.5, 1, …, 3 seconds (m).
    scene, user : int arrays, shape (n,)
        Whom the example is about.
    other : int array, shape (n, 7)
        Whom the others are, by their numbers in the scene.
    """

    own: Float[np.ndarray, "n n_own"]
    others: Float[np.ndarray, "n n_others n_features"]
    there: Bool[np.ndarray, "n n_others"]
    future: Float[np.ndarray, "n n_said"]
    scene: Int[np.ndarray, " n"]
    user: Int[np.ndarray, " n"]
    other: Int[np.ndarray, "n n_others"]


def examples(scenes: Scenes) -> Examples:
    """Each car of each scene as an example, at the moment NOW.

    Raises
    ------
    ValueError
        Where the scenes end before what is to be forecast.
    """
    if len(scenes.places) <= NOW + FUTURE:
        raise ValueError(f"scenes must have {NOW + FUTURE} steps; got {len(scenes.places) - 1}")
    users, earlier = scenes.at(NOW), scenes.at(NOW - HISTORY)
    scene, user = users.there.nonzero()  # (n,) each
    # All users but the one that asks, in the order of their numbers.
    everybody = np.arange(MOST_USERS)
    other = np.stack([np.delete(everybody, number) for number in everybody])[user]  # (n, 7)
    there = users.there[scene[:, None], other]

    back = scenes.speeds[NOW - HISTORY : NOW : SEEN_EVERY][::-1, scene, user]  # (5, n)
    place, speed = users.place[scene, user], users.speed[scene, user]
    own = np.column_stack([speed, (speed - back).T, place, HAS_PRIORITY[users.lane[scene, user]]])

    ahead = DIRECTIONS[users.lane[scene, user]]  # (n, 2)
    turn = np.stack([ahead, np.stack([-ahead[:, 1], ahead[:, 0]], axis=1)], axis=2)  # (n, 2, 2)
    where = positions(users)
    away = where[scene[:, None], other] - where[scene, user][:, None]  # (n, 7, 2)
    velocities = [
        (moment.speed[..., None] * DIRECTIONS[users.lane])[scene[:, None], other]
        for moment in (users, earlier)
    ]
    others = np.concatenate(
        [
            *(vector @ turn for vector in (away, *velocities)),
            users.place[scene[:, None], other, None],
            HAS_PRIORITY[users.lane[scene[:, None], other, None]],
        ],
        axis=2,
    )  # (n, 7, 8)

    moments = np.arange(SAID_EVERY, FUTURE + 1, SAID_EVERY)  # (6,)
    gone = scenes.places[NOW + moments][:, scene, user] - place  # (6, n)
    return Examples(
        own.astype(np.float32),
        (others * there[..., None]).astype(np.float32),
        there,
        (gone.T - speed[:, None] * TIME_STEP * moments).astype(np.float32),
        scene,
        user,
        other,
    )


def influence(scenes: Scenes) -> PerPair:
    """How much farther each car gets in three seconds if another one is taken out now.

    Returns
    -------
    float array, shape (n_scenes, who, who is taken out)
        In metres; zero for cars that are not there, and for the car itself.
    """
    users = scenes.at(NOW)
    reached = simulate(users, FUTURE).places[-1]
    found = np.zeros((*users.there.shape, MOST_USERS))
    for taken in range(MOST_USERS):
        there = users.there.copy()
        there[:, taken] = False
        found[:, :, taken] = simulate(users._replace(there=there), FUTURE).places[-1] - reached
    both = users.there[:, :, None] & users.there[:, None, :]
    return found * (both & ~np.eye(MOST_USERS, dtype=bool))


def influence_on(given: Examples, scenes: Scenes) -> Float[np.ndarray, "n n_others"]:
    """`influence`, for each example and each of its others (m)."""
    return influence(scenes)[given.scene[:, None], given.user[:, None], given.other]


def load_parts() -> dict[str, tuple[Scenes, Examples]]:
    """Training, validation and test part, and a test part with more cars, from seeds of their own.

    Returns
    -------
    dict of (Scenes, Examples)
    """
    parts = {}
    for name, (n_scenes, fewest, most, seed) in PARTS.items():
        scenes = simulate(draw_users(n_scenes, fewest, most, seed))
        parts[name] = scenes, examples(scenes)
    return parts
