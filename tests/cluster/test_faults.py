"""What breaks while images flow: parts that are killed, a store put back to an earlier day, a log made anew."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaAdminClient

from core.errors import MismatchError
from stream.broker import Broker, topic_plans
from stream.job_control import JobControl
from tests.support.faults import VICTIMS, check_calm, kill_while_flowing
from tests.support.house import House, eventually, house_settings, running, sample_rows

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

SEED = 20261121
"""Of the order and the moments of the kills."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Every part, to be harmed."""
    with running(house_settings(tmp_path_factory.mktemp("harmed"))) as house:
        yield house


def test_kills_lose_nothing_and_change_nothing(house: House, tmp_path: Path) -> None:
    rows = sample_rows(600)
    random.Random(SEED).shuffle(rows)
    kills = kill_while_flowing(house, rows, rate=15.0, rounds=1, seed=SEED)
    assert sorted(kill.part for kill in kills) == sorted(VICTIMS)
    assert check_calm(house, tmp_path / "calm") > 100
    assert house.dead_letters() == []


def test_a_store_put_back_to_an_earlier_state_catches_up_by_itself(house: House) -> None:
    """The running job then offers it records beyond its next one, is told so, and is submitted again from there."""
    store, copy = house.settings.signal_dir("photos", "store"), house.settings.data_dir / "copy-of-storage"
    before, after, more = sample_rows(40, skip=700), sample_rows(40, skip=740), sample_rows(60, skip=780)
    # No copies of theirs come last: a head among them that is alone would rightly move.
    photographs = {_photograph(row.image_id) for row in after}
    last = [row for row in more if _photograph(row.image_id) not in photographs][:10]
    house.await_heads([row.image_id for row in house.publish(before)])
    house.deployment.stop("photos-storage")
    shutil.copytree(store, copy)
    house.deployment.start("photos-storage")
    expected = house.await_heads([row.image_id for row in house.publish(after)])

    house.deployment.stop("photos-storage")
    shutil.rmtree(store)
    copy.rename(store)
    house.deployment.start("photos-storage")
    assert house.heads(row.image_id for row in after) == {}
    control = JobControl(house.settings, "photos")
    job = control.state()
    house.await_heads([row.image_id for row in house.publish(last)])
    assert house.heads(row.image_id for row in after) == expected
    assert house.problems() == []
    again = control.state()
    assert job is not None
    assert again is not None
    assert again.job_id != job.job_id


def _photograph(image_id: str) -> str:
    """The photograph that an image of the sample is, or is an edit of: `clothing-NUMBER-eNN`."""
    return "-".join(image_id.split("-")[:2])


def test_a_log_that_was_made_anew_is_refused(house: House) -> None:
    control = JobControl(house.settings, "photos")
    control.stop()
    stopped = control.state()
    assert stopped is not None
    assert not stopped.live
    joined = house.signal.topic("joined")
    admin = KafkaAdminClient(bootstrap_servers=house.settings.kafka.servers)
    admin.delete_topics([joined])
    admin.close()
    [plan] = [plan for plan in topic_plans(house.signal, house.settings.kafka) if plan.name == joined]
    with Broker(house.settings.kafka_access("test")) as broker:
        eventually(lambda: joined not in broker.topics() or None, 30, lambda: f"{joined} is still there")
        assert broker.create([plan], house.settings.kafka.replication) == [joined]
    with pytest.raises(MismatchError, match="deleted and made again"):
        control.start()
    state = control.state()
    assert state is None or not state.live
