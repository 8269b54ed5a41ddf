"""A Flink home of links and rendered configuration, with the wheel left as it is."""

from __future__ import annotations

from pathlib import Path

import yaml

from stream.local.certificates import ensure_certificate
from stream.local.flink_home import flink_config, flink_distribution, flink_environment, prepare_flink
from stream.settings import Settings


def _listing(folder: Path) -> list[tuple[str, int, int]]:
    return sorted((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*.*"))


def test_home_links_what_must_share_one_class_loader(settings: Settings) -> None:
    wheel = flink_distribution()
    before = _listing(wheel / "lib") + _listing(wheel / "conf") + _listing(wheel / "plugins")
    ensure_certificate(settings)
    prepare_flink(settings)
    prepare_flink(settings)
    home = settings.data_dir / "flink"
    names = {path.name for path in (home / "lib").iterdir()}
    for needed in ("flink-dist-", "flink-python-", "flink-sql-connector-kafka-", "flink-table-runtime-"):
        assert [name for name in names if name.startswith(needed)], needed
    assert all(path.is_symlink() and path.resolve().is_file() for path in (home / "lib").iterdir())
    assert list((home / "plugins" / "metrics-prometheus").glob("flink-metrics-prometheus-*.jar"))
    assert before == _listing(wheel / "lib") + _listing(wheel / "conf") + _listing(wheel / "plugins")


def test_configuration_reads_back_as_it_was_meant(settings: Settings) -> None:
    tls = ensure_certificate(settings)
    prepare_flink(settings)
    read = yaml.safe_load((settings.data_dir / "flink" / "conf" / "config.yaml").read_text())
    assert read == {**flink_config(settings, read["env.java.opts.all"]), **tls.options()}
    assert "--add-opens=java.base/java.lang=ALL-UNNAMED" in read["env.java.opts.all"]
    assert read["rest.port"] == settings.flink.rest_port
    assert read["jobmanager.rpc.port"] == settings.flink.rpc_port


def test_thread_mode_keeps_its_rules(settings: Settings) -> None:
    config = flink_config(settings, "")
    assert config["python.execution-mode"] == "thread"
    assert config["pipeline.operator-chaining.enabled"] is False
    assert config["restart-strategy.type"] == "exponential-delay"
    assert config["execution.checkpointing.externalized-checkpoint-retention"] == "RETAIN_ON_CANCELLATION"
    assert "restart-strategy.fixed-delay.attempts" not in config


def test_all_that_flink_writes_lies_below_the_data_folder(settings: Settings) -> None:
    config = flink_config(settings, "")
    paths = [value.removeprefix("file://") for value in config.values() if isinstance(value, str) and "/" in value]
    written = [path for path in paths if path != config["python.executable"]]
    assert len(written) == 5
    assert all(path.startswith(f"{settings.data_dir}/") for path in written)
    assert all(
        flink_environment(settings)[name].startswith(f"{settings.data_dir}/")
        for name in ("FLINK_CONF_DIR", "FLINK_LIB_DIR", "FLINK_LOG_DIR", "FLINK_PID_DIR", "FLINK_PLUGINS_DIR")
    )


def test_a_task_manager_elsewhere_finds_its_own_address(settings: Settings) -> None:
    flink = settings.flink.model_copy(update={"host": "jobmanager", "bind_host": "0.0.0.0"})
    config = flink_config(settings.model_copy(update={"flink": flink}), "")
    assert "taskmanager.host" not in config
    assert config["jobmanager.rpc.address"] == "jobmanager"
    assert config["taskmanager.bind-host"] == "0.0.0.0"
