"""The assignment of a batch of records of the order to clusters."""

from __future__ import annotations

from search.clustering.arrivals import Arrival, More, MoreNeed, PairNeed, Ports, pair_need

__all__ = ["Arrival", "More", "MoreNeed", "PairNeed", "Ports", "pair_need"]
