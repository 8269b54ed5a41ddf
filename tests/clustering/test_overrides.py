"""The stream obeys overrides: forbids, pins, followers, and matches that people vouch for."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from types import MappingProxyType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clustering.assignment import Arrival, More, MoreNeed, Plan, Replaying, assign, plan
from clustering.explain import Explanation, explain
from clustering.planning import MAX_EXTRA_PAGES
from clustering.recorded import recorded_judgement
from core.traces import Adoption, LossReason, Why
from core.types import (
    Cause,
    Cluster,
    ImageId,
    LastVerdict,
    Lookup,
    Move,
    Thresholds,
    Versions,
    Written,
)
from tests.clustering.test_assignment_properties import BUSY_WORLDS, IDS, WORLDS
from tests.clustering.test_planning import arrival, best_match_whatever_its_head, candidate, heads, knowing, lookup
from tests.support.cluster_world import Record, World, WorldPorts
from tests.support.ruled_store import RuledStore, rules_of


def ruled(known: Lookup, pins: dict[str, str] | None = None, forbids: tuple[str, ...] = (), **elsewhere: str) -> Lookup:
    """The look-up with rules: `{"x": "t"}` pins x to t, `"xa"` forbids x and a.

    `elsewhere` has the heads of images that were not looked up.
    """
    rules = rules_of(
        {ImageId(image): ImageId(target) for image, target in (pins or {}).items()},
        [(ImageId(pair[0]), ImageId(pair[1])) for pair in forbids],
    )
    named = {image for image, each in rules.items()}
    known_heads = {image: known.memberships[image].head for image in named if image in known.memberships}
    other_heads = {ImageId(image): ImageId(head) for image, head in elsewhere.items()}
    return replace(known, rules=rules, rule_heads=known_heads | other_heads)


def decided(batch: list[Arrival], known: Lookup, *more_ids: str, scores: dict[str, float] | None = None) -> Plan:
    """The plan of a batch; nothing may be lacking."""
    planned = plan(batch, knowing(known, *more_ids, scores=scores), 5)
    assert len(planned.decisions) == len(batch)
    return planned


def told(planned: Plan, batch: list[Arrival], row: int = 0) -> Explanation:
    decision = planned.decisions[row]
    return explain(batch[row], decision, planned.judgements.get(decision.offset))


class TestForbidden:
    """x must not meet the image e."""

    def test_the_next_match_gives_the_head(self) -> None:
        batch = [arrival(10, "x", {"a": 0.9, "c": 0.8})]
        planned = decided(batch, ruled(lookup(a="e", c=""), forbids=("xe",)), "x")
        assert heads(planned) == [("x", "c", Cause.MATCHED)]
        explained = told(planned, batch)
        assert [(one.image_id, one.head, one.lost, one.adoption) for one in explained.candidates] == [
            ("a", "a", LossReason.FORBIDDEN, None),
            ("c", "c", None, None),
        ]

    def test_the_forbidden_image_needs_no_membership_in_the_look_up(self) -> None:
        planned = decided([arrival(10, "x", {"a": 0.9})], ruled(lookup(a="b"), forbids=("xe",), e="a"), "x")
        assert heads(planned) == [("x", "x", Cause.FOUNDED)]

    def test_without_another_match_it_founds(self) -> None:
        batch = [arrival(10, "x", {"a": 0.9})]
        planned = decided(batch, ruled(lookup(a="e"), forbids=("xe",)), "x")
        assert heads(planned) == [("x", "x", Cause.FOUNDED)]
        choice = told(planned, batch).choice
        assert choice is not None
        assert choice.why is Why.ALL_REFUSED

    def test_a_forbidden_singleton_is_not_adopted(self) -> None:
        batch = [arrival(10, "x", {"e": 0.9})]
        planned = decided(batch, ruled(lookup(e=""), forbids=("xe",)), "x")
        assert heads(planned) == [("x", "x", Cause.FOUNDED)]
        [one] = told(planned, batch).candidates
        assert (one.lost, one.adoption, one.adopt_score) == (LossReason.FORBIDDEN, Adoption.FORBIDDEN, 0.9)

    def test_an_image_that_leaves_a_forbidden_cluster_does_not_come_back(self) -> None:
        again = arrival(10, "x", {"a": 0.9}, version=2)
        planned = decided([again], ruled(lookup(a="xe"), forbids=("xe",)), scores={"xa": 0.9})
        assert heads(planned) == [("x", "x", Cause.FOUNDED)]

    def test_a_head_that_has_members_stays_the_head(self) -> None:
        batch = [arrival(10, "a", {"e": 0.9}, version=2)]
        planned = decided(batch, ruled(lookup(a="e"), forbids=("ae",)))
        assert heads(planned) == [("a", "a", Cause.KEPT)]

    def test_a_cluster_that_a_deleted_image_names_is_forbidden_too(self) -> None:
        known = lookup(e="m")
        known = replace(
            known,
            memberships={ImageId("m"): known.memberships[ImageId("m")]},
            clusters={ImageId("e"): Cluster(ImageId("e"), 1, b"e", head_deleted=True)},
        )
        batch = [arrival(10, "x", {"m": 0.9})]
        planned = decided(batch, ruled(known, forbids=("xe",)), "x", scores={"xe": 0.9})
        assert heads(planned) == [("x", "x", Cause.FOUNDED)], "the deleted head may come back"
        assert told(planned, batch).candidates[0].lost is LossReason.FORBIDDEN

    def test_an_image_sees_where_an_earlier_one_of_its_batch_went(self) -> None:
        batch = [arrival(10, "e", {"a": 0.9}), arrival(11, "x", {"a": 0.9})]
        planned = decided(batch, ruled(lookup(a="b"), forbids=("xe",)), "e", "x")
        assert heads(planned) == [("e", "a", Cause.MATCHED), ("x", "x", Cause.FOUNDED)]

    def test_a_later_version_of_the_forbidden_image_frees_its_cluster(self) -> None:
        batch = [arrival(10, "e", version=2), arrival(11, "x", {"a": 0.9})]
        planned = decided(batch, ruled(lookup(a="eb"), forbids=("xe",), e="a"), "x")
        assert heads(planned) == [("e", "e", Cause.FOUNDED), ("x", "a", Cause.MATCHED)]

    def test_the_rule_of_a_user_obeys_too(self) -> None:
        known = knowing(ruled(lookup(a="e", c="d"), forbids=("xe",)), "x")
        planned = plan([arrival(10, "x", {"a": 0.9, "d": 0.8})], known, 5, best_match_whatever_its_head)
        assert heads(planned) == [("x", "c", Cause.MATCHED)]

    def test_a_giant_forbidden_cluster_hides_no_match(self) -> None:
        batch = [arrival(10, "x", {"e": 0.9}, exhausted=False)]
        known = knowing(ruled(lookup(a="e", c=""), forbids=("xe",)), "x", scores={"xc": 0.8})
        assert plan(batch, known, 5).more == (MoreNeed(10, 1, 10),)
        page = More((candidate("c"),), exhausted=False)
        paged = replace(known, more={MoreNeed(10, 1, 10): page})
        assert heads(plan(batch, paged, 5)) == [("x", "c", Cause.MATCHED)]

    def test_the_pages_for_it_end(self) -> None:
        batch = [arrival(10, "x", {"e": 0.9}, exhausted=False)]
        pages = {MoreNeed(10, 1 + n, 10): More((candidate("e"),), exhausted=False) for n in range(MAX_EXTRA_PAGES)}
        known = replace(knowing(ruled(lookup(a="e"), forbids=("xe",)), "x", scores={"xe": 0.9}), more=pages)
        assert heads(plan(batch, known, 5)) == [("x", "x", Cause.FOUNDED)]

    def test_a_head_that_has_members_asks_for_no_further_page(self) -> None:
        batch = [arrival(10, "a", {"e": 0.9}, version=2, exhausted=False)]
        planned = decided(batch, ruled(lookup(a="b", e=""), forbids=("ae",)))
        assert (heads(planned), planned.more) == ([("a", "a", Cause.KEPT)], ())


class TestPinned:
    """x is pinned to t, whose head is h."""

    def test_it_joins_the_head_of_its_target_whatever_matches(self) -> None:
        batch = [arrival(10, "x", {"a": 0.9, "t": 0.6, "b": 0.1}, exhausted=False)]
        planned = decided(batch, ruled(lookup(h="t", a=""), {"x": "t"}), "x")
        assert planned.decisions[0].moves == (Move(ImageId("x"), None, ImageId("h"), Cause.PINNED, None, ImageId("t")),)
        assert not planned.ids | set(planned.pairs) | set(planned.more)
        explained = told(planned, batch)
        assert explained.choice is not None
        assert (explained.choice.why, explained.choice.matched, explained.choice.head_score) == (Why.PINNED, "t", None)
        assert [(one.image_id, one.lost, one.adoption) for one in explained.candidates] == [
            ("a", LossReason.PINNED, None),
            ("t", None, None),
            ("b", LossReason.BELOW_ACCEPT, None),
        ]

    def test_a_target_that_was_not_looked_up_is_lacking(self) -> None:
        planned = plan([arrival(10, "x", {"a": 0.9})], knowing(ruled(lookup(a=""), {"x": "t"}, t="h"), "x"), 5)
        assert not planned.decisions
        assert planned.ids == {ImageId("t")}

    @pytest.mark.parametrize("asked", [True, False])
    def test_it_waits_for_a_target_that_is_unknown(self, asked: bool) -> None:
        known = ruled(lookup(a=""), {"x": "t"})
        planned = decided([arrival(10, "x", {"a": 0.9})], known, "x", *["t"] * asked)
        assert heads(planned) == [("x", "a", Cause.MATCHED)]

    def test_it_follows_a_target_of_its_own_batch(self) -> None:
        batch = [arrival(10, "t", {"a": 0.9}), arrival(11, "x", {"c": 0.9})]
        planned = decided(batch, ruled(lookup(a="", c=""), {"x": "t"}), "t", "x")
        assert heads(planned) == [("t", "a", Cause.MATCHED), ("x", "a", Cause.PINNED)]

    def test_a_member_moves_and_one_that_is_there_stays(self) -> None:
        again = arrival(10, "x", {"a": 0.9}, version=2)
        [away] = decided([again], ruled(lookup(a="x", h="t"), {"x": "t"})).decisions
        assert away.moves[0] == Move(ImageId("x"), ImageId("a"), ImageId("h"), Cause.PINNED, None, ImageId("t"))
        [there] = decided([again], ruled(lookup(a="", h="tx"), {"x": "t"})).decisions
        assert there.moves[0] == Move(ImageId("x"), ImageId("h"), ImageId("h"), Cause.PINNED, None, ImageId("t"))

    def test_a_head_that_has_members_stays_the_head(self) -> None:
        again = arrival(10, "x", {"a": 0.4}, version=2)
        planned = decided([again], ruled(lookup(x="m", t=""), {"x": "t"}))
        assert heads(planned) == [("x", "x", Cause.KEPT)]

    def test_a_forbid_outranks_a_pin(self) -> None:
        known = ruled(lookup(h="te", a=""), {"x": "t"}, ("xe",))
        assert heads(decided([arrival(10, "x", {"a": 0.9})], known, "x")) == [("x", "a", Cause.MATCHED)]

    def test_an_image_that_could_not_be_scored_is_its_own_head(self) -> None:
        unscored = replace(arrival(10, "x"), unscored="poison")
        assert heads(decided([unscored], ruled(lookup(h="t"), {"x": "t"}), "x")) == [("x", "x", Cause.UNSCORED)]

    @pytest.mark.parametrize("dry_run", [True, False])
    def test_a_replay_moves_it_there(self, dry_run: bool) -> None:
        again = replace(arrival(10, "x", {"a": 0.9}), place=0, asks=Replaying(False, dry_run, None))
        known = ruled(lookup(a="x", h="t"), {"x": "t"})
        last = LastVerdict(Cause.MATCHED, 0.9, ImageId("a"), Versions("old", "i"))
        planned = decided([again], replace(known, verdicts={ImageId("x"): last}))
        assert heads(planned) == ([] if dry_run else [("x", "h", Cause.PINNED)])

    def test_a_replay_that_changes_nothing_writes_nothing(self) -> None:
        again = replace(arrival(10, "x", {"a": 0.9}), place=0, asks=Replaying(False, False, None))
        known = ruled(lookup(a="", h="tx"), {"x": "t", "f": "x"})
        last = LastVerdict(Cause.PINNED, None, ImageId("t"), Versions("m", "i"))
        assert heads(decided([again], replace(known, verdicts={ImageId("x"): last}))) == []
        other_model = last._replace(versions=Versions("old", "i"))
        planned = decided([again], replace(known, verdicts={ImageId("x"): other_model}))
        assert heads(planned) == [("x", "h", Cause.PINNED)]

    def test_a_record_of_it_is_told_from_the_history(self) -> None:
        one = arrival(10, "x", {"a": 0.9, "b": 0.1})
        moves = (
            Move(ImageId("x"), None, ImageId("h"), Cause.PINNED, None, ImageId("t")),
            Move(ImageId("f"), ImageId("f"), ImageId("h"), Cause.PINNED, None, ImageId("x")),
        )
        [decision] = decided([one], lookup(a=""), "x").decisions
        explained = explain(one, decision, recorded_judgement(one, Written(lookup(a=""), 1, moves, 1, 10)))
        assert explained.choice is not None
        assert (explained.choice.why, explained.choice.head, explained.choice.matched) == (Why.PINNED, "h", "t")
        assert [(each.image_id, each.lost, each.adoption) for each in explained.candidates] == [
            ("a", LossReason.PINNED, None),
            ("b", LossReason.BELOW_ACCEPT, None),
        ]
        assert explained.adopted == ()


class TestAdoption:
    """x joins a; the singletons s and u match, and are near enough to a."""

    BATCH = (arrival(10, "x", {"a": 0.9, "s": 0.8, "u": 0.7}),)
    SCORES = MappingProxyType({"as": 0.8, "au": 0.8})

    def outcome(self, pins: dict[str, str] | None = None, forbids: tuple[str, ...] = ()) -> dict[str, str | None]:
        known = ruled(lookup(a="b", s="", u=""), pins, forbids)
        planned = decided(list(self.BATCH), known, "x", "t", scores=dict(self.SCORES))
        explained = told(planned, list(self.BATCH))
        adopted = {one.image_id for one in explained.adopted}
        assert adopted == {move.image_id for move in planned.decisions[0].moves if move.cause is Cause.ADOPTED}
        assert adopted == {one.image_id for one in explained.candidates if one.adoption is Adoption.ADOPTED}
        return {one.image_id: one.adoption for one in explained.candidates if one.adoption}

    def test_without_rules_both_are_adopted(self) -> None:
        assert self.outcome() == {"s": Adoption.ADOPTED, "u": Adoption.ADOPTED}

    def test_one_that_is_pinned_stays(self) -> None:
        assert self.outcome({"s": "t"}) == {"s": Adoption.FORBIDDEN, "u": Adoption.ADOPTED}

    @pytest.mark.parametrize("enemy", ["b", "x"])
    def test_one_that_must_not_meet_an_image_of_the_cluster_stays(self, enemy: str) -> None:
        assert self.outcome(forbids=("s" + enemy,)) == {"s": Adoption.FORBIDDEN, "u": Adoption.ADOPTED}

    def test_of_two_that_must_not_meet_the_better_match_moves(self) -> None:
        assert self.outcome(forbids=("su",)) == {"s": Adoption.ADOPTED, "u": Adoption.FORBIDDEN}

    def test_a_follower_outranks_one_that_it_must_not_meet(self) -> None:
        known = ruled(lookup(a="b", s="", u="", f=""), {"f": "x"}, ("fs",))
        planned = decided(list(self.BATCH), known, "x", scores=dict(self.SCORES))
        assert heads(planned) == [("x", "a", Cause.MATCHED), ("u", "a", Cause.ADOPTED), ("f", "a", Cause.PINNED)]


class TestVouching:
    """m is a member of h by a pin to t; x is a copy of m, and the code of h refuses it."""

    KNOWN = lookup(h="mtn", a="")

    def test_a_copy_of_a_pinned_image_joins_its_cluster(self) -> None:
        batch = [arrival(10, "x", {"m": 0.9})]
        unruled = decided(batch, self.KNOWN, "x", scores={"hx": 0.1})
        assert heads(unruled) == [("x", "x", Cause.FOUNDED)]
        planned = decided(batch, ruled(self.KNOWN, {"m": "t"}), "x")
        assert heads(planned) == [("x", "h", Cause.MATCHED)]
        explained = told(planned, batch)
        assert explained.choice is not None
        assert explained.choice.head_score == explained.candidates[0].head_score == 0.9

    def test_it_is_tried_after_another_match_of_its_cluster(self) -> None:
        batch = [arrival(10, "x", {"n": 0.95, "m": 0.9, "a": 0.8})]
        planned = decided(batch, ruled(self.KNOWN, {"m": "t"}), "x", scores={"hx": 0.1, "ah": 0.1})
        assert planned.decisions[0].moves[0].matched == "m"
        assert [(one.image_id, one.lost) for one in told(planned, batch).candidates] == [
            ("n", LossReason.HEAD_REFUSED),
            ("m", None),
            ("a", LossReason.WORSE),
        ]

    def test_a_match_that_is_too_far_vouches_for_nothing(self) -> None:
        batch = [arrival(10, "x", {"m": 0.55})]
        known = ruled(self.KNOWN, {"m": "t"})
        assert heads(decided(batch, known, "x", scores={"hx": 0.59})) == [("x", "x", Cause.FOUNDED)]
        assert heads(decided(batch, known, "x", scores={"hx": 0.6})) == [("x", "h", Cause.MATCHED)], "as without a pin"

    def test_one_that_waits_elsewhere_for_its_target_vouches_for_nothing(self) -> None:
        batch = [arrival(10, "x", {"m": 0.9})]
        waiting = ruled(self.KNOWN, {"m": "z"})
        for known in (waiting, replace(waiting, rule_heads={ImageId("z"): ImageId("a")})):
            assert heads(decided(batch, known, "x", scores={"hx": 0.1})) == [("x", "x", Cause.FOUNDED)]

    def test_it_vouches_for_a_head_without_a_code(self) -> None:
        known = replace(self.KNOWN, clusters={ImageId("h"): Cluster(ImageId("h"), 4, b"")})
        batch = [arrival(10, "x", {"m": 0.9, "n": 0.8})]
        planned = decided(batch, ruled(known, {"m": "t"}), "x")
        assert heads(planned) == [("x", "h", Cause.MATCHED)]
        lost = [one.lost for one in told(planned, batch).candidates]
        assert lost == [None, LossReason.HEAD_UNCODED]


class TestFollowers:
    """Images that are pinned to x."""

    def test_they_follow_a_new_image_and_followers_follow_them(self) -> None:
        known = ruled(lookup(a="", f="", c="g"), {"f": "x", "g": "f"})
        [decision] = decided([arrival(10, "x", {"a": 0.9})], known, "x").decisions
        assert decision.moves[1:] == (
            Move(ImageId("f"), ImageId("f"), ImageId("a"), Cause.PINNED, None, ImageId("x")),
            Move(ImageId("g"), ImageId("c"), ImageId("a"), Cause.PINNED, None, ImageId("f")),
        )

    def test_they_are_looked_up_first(self) -> None:
        known = ruled(lookup(a=""), {"f": "x"})
        planned = plan([arrival(10, "x", {"a": 0.9})], knowing(known, "x"), 5)
        assert not planned.decisions
        assert planned.ids == {ImageId("f")}

    def test_those_that_are_unknown_are_left_alone(self) -> None:
        planned = decided([arrival(10, "x", {"a": 0.9})], ruled(lookup(a=""), {"f": "x"}), "x", "f")
        assert heads(planned) == [("x", "a", Cause.MATCHED)]

    def test_they_stay_while_the_head_of_the_image_stays(self) -> None:
        again = arrival(10, "x", {"a": 0.9}, version=2)
        planned = decided([again], ruled(lookup(a="x", f=""), {"f": "x"}))
        assert heads(planned) == [("x", "a", Cause.MATCHED)]
        assert not plan([again], knowing(ruled(lookup(a="x"), {"f": "x"})), 5).ids, "nobody asks for them"

    @pytest.mark.parametrize("unscored", ["", "poison"])
    def test_they_follow_an_image_that_leaves(self, unscored: str) -> None:
        again = replace(arrival(10, "x", version=2), unscored=unscored)
        planned = decided([again], ruled(lookup(a="xfb"), {"f": "x"}))
        assert [move[:2] for move in heads(planned)] == [("x", "x"), ("f", "x")]

    def test_a_head_that_has_members_stays(self) -> None:
        planned = decided([arrival(10, "x", {"a": 0.9})], ruled(lookup(a="", f="b"), {"f": "x"}), "x")
        assert heads(planned) == [("x", "a", Cause.MATCHED)]

    def test_a_head_whose_last_member_leaves_follows(self) -> None:
        again = arrival(10, "x", {"a": 0.9}, version=2)
        planned = decided([again], ruled(lookup(a="", f="x"), {"f": "x"}))
        assert heads(planned) == [("x", "a", Cause.MATCHED), ("f", "a", Cause.PINNED)]

    @pytest.mark.parametrize("enemy", ["b", "e"])
    def test_one_that_must_not_meet_an_image_there_stays(self, enemy: str) -> None:
        known = ruled(lookup(a="b", f="", e=""), {"e": "x", "f": "x"}, ("f" + enemy,))
        planned = decided([arrival(10, "x", {"a": 0.9})], known, "x")
        assert heads(planned) == [("x", "a", Cause.MATCHED), ("e", "a", Cause.PINNED)]

    def test_a_circle_ends(self) -> None:
        known = ruled(lookup(f="", g=""), {"f": "x", "g": "f", "x": "g"}, ("xg",))
        planned = decided([arrival(10, "x")], known, "x")
        assert heads(planned) == [("x", "x", Cause.FOUNDED), ("f", "x", Cause.PINNED)]

    def test_one_is_seen_at_its_new_head_by_later_images(self) -> None:
        batch = [arrival(10, "x", {"a": 0.9}), arrival(11, "y", {"f": 0.9})]
        planned = decided(batch, ruled(lookup(a="", f=""), {"f": "x"}), "x", "y")
        assert heads(planned)[-1] == ("y", "a", Cause.MATCHED), "f vouches for a"
        assert planned.pairs == ()


def score_of(pairs: dict[str, float]) -> Callable[[bytes, bytes], float]:
    return lambda one, other: pairs.get("".join(sorted(one.decode() + other.decode())), 0.0)


def test_what_is_lacking_is_looked_up_in_further_rounds() -> None:
    """t and f are no candidates of x, and are looked up together; then g, which is pinned to f."""
    log = [Record(name, code=name.encode()) for name in "tfgx"]
    world = World(log, score_of({}), Thresholds(0.5, 0.6, 0.7), overlap_of=lambda one, other: 0)
    store = RuledStore()
    assign(world.arrivals(0, 3), WorldPorts(world, store), now_ms=5)
    store.say({ImageId("x"): ImageId("t"), ImageId("f"): ImageId("x"), ImageId("g"): ImageId("f")}, [])
    ports = WorldPorts(world, store)
    assert assign(world.arrivals(3), ports, now_ms=5) == 1
    assert store.heads == {ImageId(name): ImageId("t") for name in "tfgx"}
    assert ports.calls == {"look_up": 3, "score": 0, "more": 0, "apply": 1}


def test_a_delete_moves_nobody_else() -> None:
    world = World([Record("t"), Record("f", code=b"f"), Record("t", kind="delete")], score_of({}))
    store = RuledStore()
    store.say({ImageId("f"): ImageId("t")}, [])
    assign(world.arrivals(), WorldPorts(world, store), now_ms=5)
    assert store.heads == {ImageId("f"): ImageId("t")}


NAMES = st.sampled_from([ImageId(name) for name in IDS[:8]])
PINS = st.dictionaries(NAMES, NAMES, max_size=5).map(lambda pins: {one: to for one, to in pins.items() if one != to})
FORBIDS = st.sets(st.tuples(NAMES, NAMES).filter(lambda pair: pair[0] < pair[1]), max_size=5)


def run(
    world: World,
    said_at: int,
    pins: dict[ImageId, ImageId],
    forbids: set[tuple[ImageId, ImageId]],
    sizes: Callable[[], int],
) -> RuledStore:
    """Decides a world in batches of these sizes; the overrides come before a position."""
    store, apart = RuledStore(), set[tuple[ImageId, ImageId]]()
    while (start := store.position.offset + 1) < len(world.log):
        if start == said_at:
            store.say(pins, forbids)
            apart = forbids - _together(store, forbids)
        stop = min(start + sizes(), said_at if start < said_at else len(world.log), len(world.log))
        assign(world.arrivals(start, stop), WorldPorts(world, store), now_ms=5)
        assert not _together(store, apart), "a forbidden pair met"
        if start >= said_at:
            apart = forbids - _together(store, forbids)
    return store


def _together(store: RuledStore, pairs: set[tuple[ImageId, ImageId]]) -> set[tuple[ImageId, ImageId]]:
    return {pair for pair in pairs if len({store.heads.get(image, image) for image in pair}) == 1}


@settings(max_examples=200, deadline=None)
@given(
    world=WORLDS | BUSY_WORLDS,
    said_at=st.integers(0, 20),
    pins=PINS,
    forbids=FORBIDS,
    cuts=st.randoms(use_true_random=False),
)
def test_any_batches_obey_in_the_same_way_and_no_forbidden_pair_meets(
    world: World,
    said_at: int,
    pins: dict[ImageId, ImageId],
    forbids: set[tuple[ImageId, ImageId]],
    cuts: random.Random,
) -> None:
    one_by_one = run(world, said_at, pins, forbids, lambda: 1)
    batched = run(world, said_at, pins, forbids, lambda: cuts.choice([2, 7, 64]))
    assert batched.decisions == one_by_one.decisions
    assert batched.heads == one_by_one.heads
