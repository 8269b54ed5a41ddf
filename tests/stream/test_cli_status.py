"""`neardup status`: what is shown of an overview, and what of it the exit code tells."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import stream.overview
from stream.certificate_files import CertificateFile
from stream.cli.exits import Exit
from stream.cli.main import main
from stream.flink_rest import JobState
from stream.local.status import PartStatus
from stream.overview import Overview, SignalOverview

JOB = JobState("0123abcd", "neardup-photos", "RUNNING", 1_714_521_600_000)

SIGNAL = SignalOverview(
    name="photos",
    http_api="http://127.0.0.1:18080",
    stats={"images": 1234, "clusters": 56, "position": {"offset": 1233}},
    job=JOB,
    job_wanted=True,
    lag={"embeddings.search": 0, "joined": 7},
    open_dead_letters={"unparsable": 1_200, "faulted": 2},
    problems=(),
)

WELL = Overview(
    data="/data",
    supervised=True,
    kafka="127.0.0.1:19092",
    flink="http://127.0.0.1:18081",
    parts=(
        PartStatus("broker", "ready", 11, 3_723.0, ""),
        PartStatus("topics", "done", None, 0.0, ""),
        PartStatus("photos-storage", "ready", 12, 5.0, ""),
    ),
    signals=(SIGNAL,),
)

STARTING = replace(WELL, parts=(*WELL.parts, PartStatus("photos-scorer", "starting", 13, 1.0, "it loads its model")))
NO_JOB = replace(WELL, signals=(replace(SIGNAL, job=None),))
RESTARTING = replace(WELL, signals=(replace(SIGNAL, job=replace(JOB, state="RESTARTING")),))
BY_HAND = replace(WELL, signals=(replace(SIGNAL, job=replace(JOB, state="FINISHED"), job_wanted=False),))
UNASKED = replace(WELL, signals=(replace(SIGNAL, stats=None, problems=("the HTTP API does not answer",)),))
DOWN = replace(WELL, supervised=False, parts=(PartStatus("broker", "stopped", None, 0.0, "refused"),))


def shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], found: Overview, *words: str) -> Any:
    monkeypatch.setattr(stream.overview, "overview", lambda settings: found)
    code = main(["status", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize(
    ("found", "expected", "named"),
    [
        (WELL, Exit.OK, ""),
        (BY_HAND, Exit.OK, ""),
        (STARTING, Exit.UNAVAILABLE, "photos-scorer"),
        (NO_JOB, Exit.UNAVAILABLE, "signal photos"),
        (RESTARTING, Exit.UNAVAILABLE, "signal photos"),
        (UNASKED, Exit.UNAVAILABLE, "signal photos"),
        (DOWN, Exit.UNAVAILABLE, "neardup up"),
    ],
)
def test_the_exit_code_tells_whether_all_is_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], found: Overview, expected: Exit, named: str
) -> None:
    code, _, err = shown(monkeypatch, capsys, found)
    assert code == expected
    assert named in err


def test_text_has_parts_counts_job_and_lag(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = shown(monkeypatch, capsys, STARTING)
    for part in (
        "1 h 2 min",
        "it loads its model",
        "images 1,234",
        "RUNNING",
        "0123abcd",
        "joined 7",
        "open dead letters: faulted 2, unparsable 1,200",
        "http://127.0.0.1:18080",
    ):
        assert part in out
    assert "neardup job start" in shown(monkeypatch, capsys, BY_HAND)[1]
    assert "does not answer" in shown(monkeypatch, capsys, UNASKED)[1]
    none = replace(WELL, signals=(replace(SIGNAL, open_dead_letters={}),))
    assert "open dead letters: none" in shown(monkeypatch, capsys, none)[1]
    unread = replace(WELL, signals=(replace(SIGNAL, open_dead_letters=None),))
    assert "dead letters" not in shown(monkeypatch, capsys, unread)[1]


def test_json_names_the_address_of_the_api(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = shown(monkeypatch, capsys, STARTING, "--json")
    assert code == Exit.UNAVAILABLE
    told = json.loads(out)
    assert told["http_api"] == told["signals"]["photos"]["http_api"] == "http://127.0.0.1:18080"
    assert told["ok"] is False
    assert [part["name"] for part in told["parts"] if not part["ok"]] == ["photos-scorer"]
    assert told["signals"]["photos"]["job"] == {"id": "0123abcd", "state": "RUNNING"}
    assert told["signals"]["photos"]["lag"] == {"embeddings.search": 0, "joined": 7}
    assert told["signals"]["photos"]["stats"]["images"] == 1234
    assert told["signals"]["photos"]["open_dead_letters"] == {"unparsable": 1_200, "faulted": 2}


def test_certificates_that_end_soon_are_a_warning_and_change_no_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    soon = CertificateFile("flink", Path("/c.pem"), time.time() + 12.5 * 86_400)
    late = CertificateFile("tls.cert_file", Path("/d.pem"), time.time() + 99.5 * 86_400)
    found = replace(WELL, certificates=(soon, late))
    code, out, _ = shown(monkeypatch, capsys, found)
    assert code == Exit.OK
    assert "warning: certificate flink: until" in out
    assert "12 days" in out
    assert "tls.cert_file" not in out
    listed = json.loads(shown(monkeypatch, capsys, found, "--json")[1])["certificates"]
    assert [(each["name"], int(each["days_left"])) for each in listed] == [("flink", 12), ("tls.cert_file", 99)]
    # Before the first start there is none, which needs no warning.
    assert "certificate" not in shown(monkeypatch, capsys, replace(DOWN, certificates=(soon,)))[1]
