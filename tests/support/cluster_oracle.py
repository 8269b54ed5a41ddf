"""The oracle of the cluster rule: one record at a time, literally, with every score known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from clustering.assignment import Arrival, Deleting, Joining, Replaying
from core.types import Candidate
from tests.support.cluster_world import World


@dataclass
class NaiveVerdict:
    """What was said of an image last."""

    head: str
    cause: str
    score: float | None
    matched: str | None
    model: str


@dataclass
class NaiveState:
    """The result of the oracle."""

    heads: dict[str, str] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    places: dict[str, int] = field(default_factory=dict)
    founding: dict[str, bytes] = field(default_factory=dict)
    codes: dict[str, bytes] = field(default_factory=dict)
    """The present score code of each image."""
    unscored: set[str] = field(default_factory=set)
    """Images whose version could not be scored when it got its place."""
    deleted: dict[str, int] = field(default_factory=dict)
    """By image: versions up to this one are ignored."""
    verdicts: dict[str, NaiveVerdict] = field(default_factory=dict)
    request: int = -1
    history: list[tuple[int, str, str | None, str, str]] = field(default_factory=list)
    """(offset, image, old head, new head, cause)"""

    def count(self, head: str) -> int:
        """Members of a head, itself included."""
        return sum(1 for other in self.heads.values() if other == head)

    def leads(self, image: str) -> bool:
        """Whether other images have this head."""
        return any(head == image and other != image for other, head in self.heads.items())


def naive(world: World, extra_pages: int = 5) -> NaiveState:
    """The oracle: applies the cluster rule literally, one record at a time, with every score known."""
    state = NaiveState()
    for arrival in world.arrivals():
        image = arrival.image_id
        if not image:
            continue
        if isinstance(arrival.asks, Deleting):
            _naive_delete(state, arrival, arrival.asks)
        elif isinstance(arrival.asks, Replaying):
            _naive_replay(world, state, arrival, arrival.asks, extra_pages)
        elif max(state.versions.get(image, -1), state.deleted.get(image, -1)) < arrival.version:
            joins = isinstance(arrival.asks, Joining) and not arrival.unscored
            moves = _naive_join(state, arrival) if joins else _naive_decide(world, state, arrival, extra_pages)
            _naive_take(state, arrival, moves)
            state.deleted.pop(image, None)
            state.versions[image] = arrival.version
            state.places[image] = arrival.place if arrival.place >= 0 else arrival.offset
            state.codes[image] = arrival.score_code
            _naive_note_unscored(state, arrival, anew=True)
    return state


def _naive_note_unscored(state: NaiveState, arrival: Arrival, anew: bool) -> None:
    """An image stays unscored until it gets a new version or a new place."""
    if arrival.unscored:
        state.unscored.add(arrival.image_id)
    elif anew:
        state.unscored.discard(arrival.image_id)


def _naive_delete(state: NaiveState, arrival: Arrival, asks: Deleting) -> None:
    image = arrival.image_id
    last = max(state.versions.get(image, -1), state.deleted.get(image, -1))
    upto = last if asks.version is None else asks.version
    if upto < last or upto < 0:
        return
    state.deleted[image] = upto
    if image in state.heads:
        state.history.append((arrival.offset, image, state.heads.pop(image), "", "deleted"))
        del state.versions[image], state.places[image], state.verdicts[image]
    if asks.forget:
        _naive_rename(state, arrival)


def _naive_rename(state: NaiveState, arrival: Arrival) -> None:
    """The oldest scored member becomes the head; the others follow in the order in which they had joined."""
    members = [image for image, head in state.heads.items() if head == arrival.image_id]
    if not members:
        return
    joined = {who: at for at, (_, who, old, new, _) in enumerate(state.history) if old != new}
    scored = [each for each in members if each not in state.unscored]
    heir = min(scored or members, key=state.places.__getitem__)
    state.founding[heir] = state.codes[heir]
    for who in sorted(members, key=lambda each: (each != heir, joined[each])):
        state.history.append((arrival.offset, who, arrival.image_id, heir, "renamed"))
        state.heads[who] = heir
        state.verdicts[who] = NaiveVerdict(heir, "renamed", None, None, state.verdicts[who].model)


def _naive_replay(world: World, state: NaiveState, arrival: Arrival, asks: Replaying, extra_pages: int) -> None:
    image = arrival.image_id
    anew = arrival.place == arrival.offset
    if asks.request is not None:
        if asks.request.offset <= state.request and not anew:
            return
        state.request = max(state.request, asks.request.offset)
    before = state.verdicts.get(image)
    if asks.dry_run or arrival.place < 0 or image in state.deleted or (arrival.unscored and not anew):
        return
    if before is not None and before.model == arrival.versions.model and not asks.force and not anew:
        return
    old_founding = state.founding.get(image)
    heads, founding = dict(state.heads), dict(state.founding)
    moves = _naive_decide(world, state, arrival, extra_pages)
    if not asks.force and not anew and moves[0][1] == before:
        moves = moves[1:]
        if old_founding is not None:
            state.founding[image] = old_founding
        assert state.heads[image] == heads[image], founding
    _naive_take(state, arrival, moves)
    moved = state.places.get(image) != arrival.place
    if moves and moves[0][0] == image:
        _naive_note_unscored(state, arrival, anew=moved)
        if moved or arrival.score_code:
            state.codes[image] = arrival.score_code
    state.versions[image] = arrival.version
    state.places[image] = arrival.place


NaiveMove = tuple[str, NaiveVerdict, str | None]


def _naive_take(state: NaiveState, arrival: Arrival, moves: list[NaiveMove]) -> None:
    for who, verdict, before in moves:
        state.verdicts[who] = verdict
        state.history.append((arrival.offset, who, before, verdict.head, verdict.cause))


def _naive_decide(world: World, state: NaiveState, arrival: Arrival, extra_pages: int) -> list[NaiveMove]:
    """Moves the image and what it adopts; returns the verdicts."""
    image, limits, model = arrival.image_id, world.thresholds, arrival.versions.model
    old = state.heads.get(image)
    moves: list[NaiveMove] = []

    def move(who: str, before: str | None, to: str, cause: str, by: tuple[float, str] | None = None) -> None:
        state.heads[who] = to
        score, matched = by or (None, None)
        moves.append((who, NaiveVerdict(to, cause, score, matched, model), before))

    keeps = state.leads(image)
    if arrival.unscored:
        if not keeps:
            state.founding[image] = arrival.score_code
        move(image, old, image, "unscored")
        return moves
    if old is not None and not keeps:
        del state.heads[image]
    listed: list[Candidate] = []
    head, cause, by = image, "founded", None
    for page in _naive_pages(world, arrival, 1 + extra_pages):
        listed.extend(page)
        ranked = _naive_matches(world, arrival, listed)
        accepting = [m for m in ranked if _naive_accepts(world, state, m, arrival)]
        if keeps or not ranked:
            break
        if accepting:
            best = accepting[0]
            head, cause = state.heads[best.image_id], "matched"
            by = world.score(model, arrival.score_code, best.score_code), best.image_id
            break
    if keeps:
        cause = "kept"
    elif head == image:
        state.founding[image] = arrival.score_code
    move(image, old, head, cause, by)
    for match in _naive_matches(world, arrival, listed):
        lone = match.image_id
        codes = state.founding.get(lone, b""), state.founding[head]
        if lone in (image, head) or state.heads[lone] != lone or state.count(lone) != 1 or not all(codes):
            continue
        if world.score(model, *codes) >= limits.adopt:
            move(lone, lone, head, "adopted", (world.score(model, *codes), image))
    return moves


def _naive_join(state: NaiveState, arrival: Arrival) -> list[NaiveMove]:
    """Moves the image of a row to where the head is now that the row names."""
    image, asks = arrival.image_id, arrival.asks
    assert isinstance(asks, Joining)
    old, named = state.heads.get(image), str(asks.head)
    head = named if named == image or state.leads(named) else state.heads.get(named)
    if state.leads(image):
        said = NaiveVerdict(image, "kept", None, None, arrival.versions.model)
    elif head is None:
        said = NaiveVerdict(image, "founded", None, None, arrival.versions.model)
    else:
        matched = asks.matched or (None if named == image else named)
        said = NaiveVerdict(head, "bootstrapped", asks.score, matched, arrival.versions.model)
    if said.head == image and said.cause != "kept":
        state.founding[image] = arrival.score_code
    state.heads[image] = said.head
    return [(image, said, old)]


def _naive_pages(world: World, arrival: Arrival, count: int) -> Iterator[list[Candidate]]:
    [entry] = [entry for entry in world.entries if entry.place == arrival.place]
    found = world.candidates(entry, arrival.offset if isinstance(arrival.asks, Replaying) else entry.place)
    for page in range(count):
        if page == 0 or found[page * world.k :]:
            yield found[page * world.k : (page + 1) * world.k]


def _naive_matches(world: World, arrival: Arrival, listed: list[Candidate]) -> list[Candidate]:
    model = arrival.versions.model
    near = filter(world.is_near, listed)
    scored = [(world.score(model, arrival.score_code, c.score_code), c) for c in near]
    ranked = sorted(scored, key=lambda pair: (-pair[0], -pair[1].overlap, pair[1].place))
    return [c for score, c in ranked if score >= world.thresholds.accept]


def _naive_accepts(world: World, state: NaiveState, match: Candidate, arrival: Arrival) -> bool:
    founding = state.founding[state.heads[match.image_id]]
    score = world.score(arrival.versions.model, arrival.score_code, founding) if founding else 0.0
    return bool(founding) and score >= world.thresholds.head_accept
