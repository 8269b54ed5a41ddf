"""`neardup explain`: why an image has its head, and what keeps two images apart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from stream.cli.context import AsJson, SignalName, of
from stream.cli.output import line, show_json, show_tree

__all__ = ["explain"]


def explain(
    context: typer.Context,
    image_id: Annotated[str, typer.Argument(metavar="IMAGE_ID", help="The image.")],
    against: Annotated[
        str | None, typer.Option(metavar="IMAGE_ID", help="Another image: what keeps the two apart?")
    ] = None,
    signal: SignalName = None,
    as_json: AsJson = False,
) -> None:
    """Explain why an image has its head: the recorded verdict, and the question asked again.

    Asks as of now, as if the image came in a new version, and as of its place, as it came then. Nothing is written.
    The trace of the verdict itself, if there is one, is in `neardup debug show`.

    Examples:

        neardup explain clothing-0152ec2ee8

        neardup explain clothing-0152ec2ee8 --against clothing-025bbb8f3b
    """
    with of(context).api(signal) as api:
        answer = api.explain(image_id, against)
    if as_json:
        show_json(answer)
    elif against is not None:
        _show_pair(answer["against"])
    else:
        _show(answer)


def _show(answer: dict[str, Any]) -> None:
    recorded = answer["recorded"]
    found = f"match {recorded['matched']}" if recorded["matched"] else "no match"
    if recorded["score"] is not None:  # that of a pin and of most rows of manifests is not known
        found += f", score {recorded['score']:.5f}"
    said = ": a manifest says so" if recorded["cause"] == "bootstrapped" else ""
    version = recorded["versions"]["model"]
    model = f", model {version}" if version else ""
    line(f"recorded  {recorded['head']}  ({recorded['cause']}{said}, {found}{model}, {recorded['decided_at']})")
    for name, about in (("now", "asked now"), ("at_place", f"asked as of its place, {recorded['place']}")):
        line("")
        line(f"{about}{_incomplete(answer[name])}")
        _show_verdict(answer[name]["verdict"], answer[name]["problem"])


def _incomplete(asked: dict[str, Any]) -> str:
    return (
        " (incomplete: the index may have dropped what only earlier searches could see)" if asked["incomplete"] else ""
    )


def _show_verdict(verdict: dict[str, Any] | None, problem: str | None) -> None:
    from core.traces import parse_trace
    from stream.traces.tree import trace_tree

    if verdict is None:
        line(problem or "")
    else:
        show_tree(trace_tree(parse_trace(json.dumps(verdict).encode())))


def _show_pair(pair: dict[str, Any]) -> None:
    for text in _pair_lines(pair):
        line(text)
    if pair["asked"] is not None:
        line("")
        line(f"{pair['later_id']}, asked now")
        _show_verdict(pair["asked"], None)


def _pair_lines(pair: dict[str, Any]) -> Iterator[str]:
    limits = pair["thresholds"] or {}
    yield f"heads      {pair['head']}, {pair['other_head']}{' (the same)' if pair['same_head'] else ''}"
    yield f"match      {_yes(pair['would_match'])}"
    yield f"would join {_yes(pair['would_join'])}"
    if pair["apart"] is not None:
        yield f"because    {pair['why']} ({pair['apart']})"
    yield f"terms      {_number(pair['shared_terms'])} shared, {pair['needed_terms']} needed"
    yield f"distance   {_number(pair['distance_bits'])} of {pair['code_bits']} bits"
    yield f"score      {_score(pair['score'])}, accept {_score(limits.get('accept'))}"
    yield f"its head   {_score(pair['head_score'])}, head_accept {_score(limits.get('head_accept'))}"
    rules = pair["asked"]["rules"] if pair["asked"] else []
    yield f"rules      {', '.join(rules) or 'none'}"


def _yes(value: bool | None) -> str:
    return "not known" if value is None else "yes" if value else "no"


def _number(value: int | None) -> str:
    return "not known" if value is None else f"{value:,}"


def _score(value: float | None) -> str:
    return "not known" if value is None else f"{value:.5f}"
