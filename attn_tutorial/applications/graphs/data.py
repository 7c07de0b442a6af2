"""Two real networks: a karate club, and six libraries whose docstrings name one another.

A docstring in numpydoc's format has a section "See Also". The author of `numpy.mean`, say, wrote
there `average`, `std` and `var`. Each member of a library (a function, a class, a method) is a node
here, and such a mention an edge. What a node says of itself is the summary of its docstring; where
it lives, `numpy` or `scipy.stats`, is what the models have to guess.
"""

from __future__ import annotations

import collections
import dataclasses
import importlib
import inspect
import json
import pkgutil
import re
import sys
import warnings
from collections.abc import Iterable, Iterator

import networkx
import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from attn_tutorial.fresh_process import printed_by

LIBRARIES = {
    "numpy": "numpy",
    "scipy": "scipy",
    "scikit-learn": "sklearn",
    "pandas": "pandas",
    "statsmodels": "statsmodels",
    "networkx": "networkx",
}
# Where a member may live; the longest that its path begins with counts.
PLACES = (
    "networkx",
    "numpy",
    "numpy.char",
    "numpy.ma",
    "numpy.polynomial",
    "numpy.random",
    "pandas",
    "scipy.interpolate",
    "scipy.linalg",
    "scipy.ndimage",
    "scipy.optimize",
    "scipy.signal",
    "scipy.special",
    "scipy.stats",
    "sklearn",
    "statsmodels.stats",
    "statsmodels.tsa",
)
# What is no part of a library's interface, or was copied from another project.
LEFT_OUT = re.compile(
    r"\.(_|tests?\b|conftest|testing|sandbox|examples|backends|setup|f2py|externals|compat)"
)
WORD = re.compile(r"[a-z][a-z]+")
# A summary that names the place would give the answer away.
GIVEN_AWAY = {part for place in PLACES for part in place.split(".")} | {"np", "pd", "nx", "scikit"}
FEW = 10  # labelled nodes of each place
MR_HI, OFFICER = 0, 1


@dataclasses.dataclass(frozen=True)
class Member:
    """A function, class, method or property of a library, as its docstring describes it.

    Attributes
    ----------
    paths : list of str
        Under which it can be reached, the shortest first.
    summary : str
    see_also : list of str
        The names in the section "See Also", as they are written there.
    """

    paths: list[str]
    summary: str
    see_also: list[str]


@dataclasses.dataclass(frozen=True)
class Network:
    """Nodes with words and a label, and undirected edges between them.

    Attributes
    ----------
    names : list of str
    summaries : list of str
    labels : int64 tensor, shape (n_nodes,)
        Positions in `PLACES`.
    edges : int64 tensor, shape (2, n_edges)
        Each pair of neighbours once, the smaller number first.
    """

    names: list[str]
    summaries: list[str]
    labels: Int[Tensor, " n_nodes"]
    edges: Int[Tensor, "2 n_edges"]


def words_of(summary: str) -> list[str]:
    """The words of a summary in lower case, without those that name a place."""
    return [word for word in WORD.findall(summary.lower()) if word not in GIVEN_AWAY]


def place_of(path: str) -> str | None:
    """The longest of `PLACES` that a path begins with; None where there is none."""
    fitting = [place for place in PLACES if path.startswith(place + ".")]
    return max(fitting, key=len, default=None)


def docstrings(module_name: str) -> dict[str, list[str]]:
    """All docstrings of a library's public members, each with the paths that lead to it."""
    found: dict[str, list[str]] = collections.defaultdict(list)
    package = importlib.import_module(module_name)
    walk = pkgutil.walk_packages(package.__path__, module_name + ".", onerror=lambda _: None)
    names = [module_name, *sorted(info.name for info in walk if not LEFT_OUT.search(info.name))]
    for name in names:
        try:
            module = importlib.import_module(name)
        except Exception:  # a module may want a library that is not installed
            continue
        for path, item in _members(module, name):
            home = getattr(item, "__module__", None) or name
            text = getattr(item, "__doc__", None)
            if isinstance(text, str) and str(home).startswith(module_name):
                found[inspect.cleandoc(text)].append(path)
    return found


def read_members() -> list[Member]:
    """The members of all libraries, in this process; those with one docstring are one member."""
    members = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for module_name in LIBRARIES.values():
            for text, paths in docstrings(module_name).items():
                ordered = sorted(set(paths), key=lambda path: (path.count("."), path))
                members.append(Member(ordered, *_summary_and_see_also(text)))
    return members


def resolve(members: list[Member]) -> set[tuple[int, int]]:
    """Which member means which: pairs of positions, the smaller first.

    A name is looked up as it stands, and then in front of it the path of the member that wrote it,
    longest first, as a reader would. A name that fits no member, or several, is left out.

    Parameters
    ----------
    members : list of Member

    Returns
    -------
    set of (int, int)
    """
    at: dict[str, set[int]] = collections.defaultdict(set)
    for number, member in enumerate(members):
        for path in member.paths:
            at[path].add(number)
    edges = set()
    for number, member in enumerate(members):
        for name in member.see_also:
            bare = re.sub(r"^np\.", "numpy.", name.strip("`~. "))
            tried = [bare, *(f"{front}.{bare}" for path in member.paths for front in _fronts(path))]
            meant = next((at[path] for path in tried if path in at), set())
            if len(meant) == 1 and meant != {number}:
                edges.add((min(number, *meant), max(number, *meant)))
    return edges


def network_of(members: list[Member]) -> Network:
    """The members that live in one of `PLACES`, have words and have an edge; and their edges."""
    known = {
        number
        for number, member in enumerate(members)
        if place_of(member.paths[0]) and words_of(member.summary)
    }
    edges = sorted(edge for edge in resolve(members) if known.issuperset(edge))
    kept = sorted({number for edge in edges for number in edge})
    number_of = {old: new for new, old in enumerate(kept)}
    return Network(
        names=[members[old].paths[0] for old in kept],
        summaries=[members[old].summary for old in kept],
        labels=torch.tensor([PLACES.index(place_of(members[old].paths[0])) for old in kept]),
        edges=torch.tensor([[number_of[old] for old in edge] for edge in edges]).T,
    )


def load_network() -> Network:
    """The network of the libraries' members, read by a fresh process.

    (A library may change another's docstrings once both are imported.) The first time takes some
    seconds.

    Raises
    ------
    RuntimeError
        Where the process fails.
    """
    content = json.loads(printed_by(__name__))
    return Network(
        content["names"],
        content["summaries"],
        torch.tensor(content["labels"]),
        torch.tensor(content["edges"]),
    )


def split(
    network: Network, seed: int, *, share: float | None = None
) -> dict[str, Int[Tensor, " n"]]:
    """Draw the nodes whose label is told, those that settings are chosen by, and those that test.

    No text is in two parts: a node whose summary has the same words as that of a node drawn earlier
    would be known by heart. Such a node is in no part, but stays in the network.

    Parameters
    ----------
    network : Network
    seed : int
    share : float, optional
        The share of each place's nodes to train on; a tenth is for validation. By default ten nodes
        of each place for training, and ten for validation.

    Returns
    -------
    dict of int64 tensors
        The numbers of the nodes in "training", "validation" and "test", ascending.

    Raises
    ------
    ValueError
        Where the share leaves nothing to test, or a place has too few texts.
    """
    if share is not None and not 0 < share < 0.9:
        raise ValueError(f"share must be above 0 and below 0.9; got {share}")
    sizes = network.labels.bincount(minlength=len(PLACES))  # (n_places,)
    wanted = {"training": 0 * sizes + FEW, "validation": 0 * sizes + FEW}
    if share is not None:
        wanted = {"training": (share * sizes).long(), "validation": (0.1 * sizes).long()}
    texts = [tuple(words_of(summary)) for summary in network.summaries]
    order = np.random.default_rng(seed).permutation(len(texts)).tolist()
    parts: dict[str, list[int]] = {}
    taken: set[tuple[str, ...]] = set()
    for part, left in wanted.items():
        left, parts[part] = left.clone(), []
        for node in order:
            place = network.labels[node]
            if left[place] > 0 and texts[node] not in taken:
                left[place] -= 1
                taken.add(texts[node])
                parts[part].append(node)
        if (left > 0).any() and share is None:
            short = [PLACES[place] for place in left.nonzero().flatten()]
            raise ValueError(f"{part} needs {FEW} different texts of each place; too few: {short}")
    parts["test"] = [node for node in order if texts[node] not in taken]
    return {part: torch.tensor(sorted(nodes)) for part, nodes in parts.items()}


def karate_club() -> tuple[Int[Tensor, " 34"], Int[Tensor, "2 78"]]:
    """The members of a karate club and who met whom outside it; then the club broke in two.

    Returns
    -------
    labels : int64 tensor, shape (34,)
        0 for those who went with the instructor, Mr. Hi (node 0), 1 for those with the officer
        (node 33).
    edges : int64 tensor, shape (2, 78)

    References
    ----------
    Zachary (1977), "An Information Flow Model for Conflict and Fission in Small Groups", Journal of
    Anthropological Research 33; the copy that networkx has.
    """
    club = networkx.karate_club_graph()
    sides = [MR_HI if club.nodes[node]["club"] == "Mr. Hi" else OFFICER for node in club]
    return torch.tensor(sides), torch.tensor(sorted(map(sorted, club.edges))).T


def _members(module, name: str) -> Iterator[tuple[str, object]]:
    """The public members of a module, and of its classes, with their paths."""
    for key, member in sorted(vars(module).items()):
        if key.startswith("_") or inspect.ismodule(member):
            continue
        if callable(member):
            yield f"{name}.{key}", member
        if inspect.isclass(member):
            for own, item in sorted(vars(member).items()):
                if not own.startswith("_") and (callable(item) or isinstance(item, property)):
                    yield f"{name}.{key}.{own}", item


def _summary_and_see_also(text: str) -> tuple[str, list[str]]:
    """The two sections of a docstring; nothing where it is not in numpydoc's format."""
    from numpydoc.docscrape import NumpyDocString

    try:
        sections = NumpyDocString(text)
    except ValueError:  # a section twice, say
        return "", []
    names = [name for group, _ in sections["See Also"] for name, _ in group]
    return " ".join(sections["Summary"]), names


def _fronts(path: str) -> Iterable[str]:
    """What stands in front of each point of a path, longest first."""
    parts = path.split(".")
    return (".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1))


if __name__ == "__main__":
    read = dataclasses.asdict(network_of(read_members()))
    json.dump(
        {**read, "labels": read["labels"].tolist(), "edges": read["edges"].tolist()}, sys.stdout
    )
