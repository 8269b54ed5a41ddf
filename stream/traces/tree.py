"""Draws a trace as a tree for a terminal: the verdict, what it rests on, and why every other match lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text
from rich.tree import Tree

from core.traces import LossReason, Trace, TracedCandidate, TraceKind, Why
from core.types import Outcome
from stream.printable import printable
from stream.times import time_text
from stream.traces.choice import spent_ms
from stream.traces.words import score_text

__all__ = ["SHOWN_CANDIDATES", "trace_tree"]

SHOWN_CANDIDATES = 10
"""Of the candidates that are no matches, so many are drawn."""

SHOWN_MATCHES = 50
"""Of the matches, best first, beside the one that gave the image its head."""

_NO_MATCHES = (LossReason.BELOW_ACCEPT, LossReason.ITSELF, LossReason.BEYOND_GATE)


def trace_tree(trace: Trace, shown_candidates: int = SHOWN_CANDIDATES) -> Tree:
    """A trace as a tree.

    Args:
        trace: The trace.
        shown_candidates: How many candidates that are no matches it draws.
    """
    tree = Tree(_headline(trace), guide_style="dim", highlight=False)
    for title, lines in _branches(trace, shown_candidates):
        if lines:
            branch = tree.add(Text(title, style="bold"))
            for line in lines:
                branch.add(line if isinstance(line, Text) else Text(printable(line)))
    return tree


def _branches(trace: Trace, shown_candidates: int) -> Iterator[tuple[str, Sequence[str | Text]]]:
    yield "why", list(_why(trace))
    yield "arrival", list(_arrival(trace))
    yield "search", list(_search(trace))
    yield _candidates_title(trace), _candidates(trace, shown_candidates)
    yield "adopted", list(_adopted(trace))
    yield "written", list(_written(trace))
    yield "versions", list(_versions(trace))
    yield "time", list(_times(trace))


def _headline(trace: Trace) -> Text:
    text = Text(printable(trace.image_id) or "(a record that names no image)", style="bold")
    text.append(f" version {trace.version}", style="not bold")
    if trace.choice is not None:
        text.append(" -> ", style="not bold")
        text.append(printable(trace.choice.head), style="bold green")
    about = [trace.kind if trace.kind != "image" else "", trace.outcome or "", trace.cause or ""]
    about += ["dry run: nothing was written"] if trace.dry_run else []
    text.append(f"  ({printable(', '.join(each for each in about if each))})", style="not bold")
    return text


def _why(trace: Trace) -> Iterator[str]:
    choice = trace.choice
    if choice is not None:
        yield _sentence(choice.why)
        if choice.matched is not None:
            yield f"match {choice.matched}, score {score_text(choice.score)}"
        if choice.head_score is not None:
            yield f"its head {choice.head}, score {score_text(choice.head_score)}"
        if choice.old_head is not None and choice.old_head != choice.head:
            yield f"before, its head was {choice.old_head}"
    elif trace.kind == TraceKind.REPLAY and trace.outcome == Outcome.REPLAYED and not trace.dry_run:
        yield "nothing changed: its verdict has these versions already (`--force` decides it again), or it was deleted"
    if trace.row is not None:
        became = "" if trace.row.result is None else f": {trace.row.result.replace('_', ' ')}"
        yield f"row {trace.row.row} of manifest {trace.row.manifest_id}, head {trace.row.head}{became}"
    if trace.unscored is not None:
        yield trace.unscored
    if trace.repeated:
        yield "the verdict was written in an earlier try, and is told from the history"
    for rule in trace.rules:
        yield f"rule {rule}"


def _sentence(why: str) -> str:
    return Why(why).text if why in set(Why) else why


def _arrival(trace: Trace) -> Iterator[str]:
    for half in trace.halves:
        yield f"{half.side} embedding at {time_text(half.arrived_at_ms)}, partition {half.partition}/{half.offset}"
    if trace.join_wait_ms is not None:
        yield f"the first half waited {trace.join_wait_ms:,} ms for the second"
    yield f"position {trace.position}, place {trace.place}"
    yield f"traced because of: {trace.reason}" + (f", request {trace.request_id}" if trace.request_id else "")


def _search(trace: Trace) -> Iterator[str]:
    if trace.terms is not None:
        yield f"{trace.terms.count} terms, fingerprint {trace.terms.fingerprint}"
    found = trace.search
    if found is not None:
        pages = f", {found.pages} further pages" if found.pages else ""
        yield f"{found.found:,} candidates{pages}, {found.postings:,} postings touched"
        if found.truncated:
            yield "truncated at max_postings: younger images of long lists were no candidates"


def _candidates_title(trace: Trace) -> str:
    title = "candidates"
    if trace.thresholds is not None:
        limits = trace.thresholds
        gate = "" if trace.gate is None else f", gate {trace.gate}"
        title += f"  (accept {limits.accept:g}, head_accept {limits.head_accept:g}, adopt {limits.adopt:g}{gate})"
    return title


def _candidates(trace: Trace, shown: int) -> list[Text]:
    matches = [each for each in trace.candidates if each.lost not in _NO_MATCHES]
    others = [each for each in trace.candidates if each.lost in _NO_MATCHES]
    drawn = [each for rank, each in enumerate(matches) if rank < SHOWN_MATCHES or each.lost is None] + others[:shown]
    lines = [_candidate(each, won=trace.choice is not None and each.lost is None) for each in drawn]
    left = len(trace.candidates) - len(drawn) + trace.dropped_candidates
    if left:
        dropped = f", of which {trace.dropped_candidates:,} did not fit the trace" if trace.dropped_candidates else ""
        lines.append(Text(f"and {left:,} more{dropped}", style="dim"))
    return lines


def _candidate(one: TracedCandidate, *, won: bool) -> Text:
    style = "bold green" if won else "dim" if one.lost in _NO_MATCHES else "yellow"
    text = Text(f"{'+' if won else '-'} {printable(one.image_id)}", style=style)
    distance = "" if one.distance is None else f"  distance {one.distance}"
    text.append(f"  score {score_text(one.score)}  overlap {one.overlap}{distance}  place {one.place}")
    if one.head is not None and one.head != one.image_id:
        text.append(f"  head {printable(one.head)}")
    if one.head_score is not None:
        text.append(f"  head scores {score_text(one.head_score)}")
    if won or one.lost is not None:
        text.append(f": {'it gave the image its head' if won else printable(_loss(str(one.lost)))}")
    if one.adoption is not None:
        score = "" if one.adopt_score is None else f" ({score_text(one.adopt_score)} against the chosen head)"
        text.append(f"; {printable(one.adoption.replace('_', ' '))}{score}")
    return text


def _loss(lost: str) -> str:
    return LossReason(lost).text if lost in set(LossReason) else lost


def _adopted(trace: Trace) -> Iterator[str]:
    for each in trace.adopted:
        yield f"{each.image_id}, score {score_text(each.score)}"
    if trace.dropped_adopted:
        yield f"and {trace.dropped_adopted:,} more that did not fit the trace"


def _written(trace: Trace) -> Iterator[str]:
    numbers = trace.writes
    if numbers is not None:
        yield f"history {numbers.first:,}" + ("" if numbers.first == numbers.last else f" to {numbers.last:,}")


def _versions(trace: Trace) -> Iterator[str]:
    for name in ("model", "index", "settings", "code"):
        value = getattr(trace.versions, name)
        if value:
            yield f"{name} {value}"


def _times(trace: Trace) -> Iterator[str]:
    for step in trace.steps:
        tries = "" if step.tries == 1 else f", {step.tries} tries"
        yield f"{step.name} {step.left_ms - step.entered_ms:,} ms{tries}"
    total = spent_ms(trace, "total")
    if total is not None and trace.steps:  # a question has no steps, and its time is the image's age
        yield f"from the second half to the verdict {total:,} ms"
    if trace.decided_at_ms:
        yield f"decided at {time_text(trace.decided_at_ms)}"
