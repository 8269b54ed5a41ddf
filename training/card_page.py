"""The model card as a readable page: Markdown beside `metadata.json`, with plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from scoring.card import ModelCard
from training.judging import Judged

__all__ = ["CARD_PAGE", "write_page"]

CARD_PAGE = "card.md"
"""The page's name in the folder of a version."""


def write_page(card: ModelCard, judged: Judged | None, pictures: Sequence[Path], folder: Path) -> None:
    """Writes the page. `judged`: the results on the split that the card names; None: there are none."""
    limits = card.thresholds
    held = f"{card.bits:,} bits" + (f" and {card.values} values" if card.values else "")
    looks = held if card.xor else f"the {card.values} values of codes of {held}"
    lines = [
        f"# {card.version}",
        "",
        f"Recognises near-duplicate images by {looks}, from the embedding {card.embedding_name} (version "
        f"{card.embedding_version}). {card.parameters:,} parameters, hidden layers {list(card.hidden)}. Scores are "
        "calibrated probabilities.",
        "",
        "| threshold | value |",
        "| --- | --- |",
        f"| `accept`: a candidate matches | {limits.accept:.4f} |",
        f"| `head_accept`: the head of the match's cluster matches too | {limits.head_accept:.4f} |",
        f"| `adopt`: a matching singleton is merged into the cluster | {limits.adopt:.4f} |",
        f"| `gate`: the largest hamming distance of a candidate that is scored | {_gate(card)} |",
        "",
        "| measured | |",
        "| --- | --- |",
        *(f"| {name} | {value:.4f} |" for name, value in sorted(card.metrics.items())),
    ]
    if judged is not None:
        split = card.judged.get("split", "test")
        lines += ["", f"| kind of edit ({split}) | proposed copies | recall at `accept` | recall at precision 0.99 |"]
        lines += ["| --- | --- | --- | --- |"]
        lines += [_row(name, f"{one['copies']:,}", *_shares(one)) for name, one in judged.by_family().items()]
        lines += ["", f"| data set ({split}) | precision at `accept` | recall at `accept` | recall at precision 0.99 |"]
        lines += ["| --- | --- | --- | --- |"]
        lines += [
            _row(name, f"{one['precision_at_accept']:.3f}", *_shares(one)) for name, one in judged.by_dataset().items()
        ]
    lines += ["", *(f"![{picture.stem}]({picture.name})" for picture in pictures), ""]
    lines += [
        f"Trained on data with the SHA-256 `{card.training_sha256[:16]}...`, codes `{card.code_fingerprint[:16]}...`, "
        + ", ".join(f"{name} {version}" for name, version in sorted(card.software.items()))
        + ". All settings and checksums are in `metadata.json`.",
        "",
    ]
    (folder / CARD_PAGE).write_text("\n".join(lines), encoding="utf-8")


def _gate(card: ModelCard) -> str:
    return "none" if card.gate is None else f"{card.gate} of {card.bits:,} bits"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _shares(recalls: Mapping[str, float]) -> tuple[str, str]:
    return f"{recalls['recall_at_accept']:.3f}", f"{recalls['recall_at_precision_0.99']:.3f}"
