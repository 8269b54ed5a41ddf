"""docker-compose.yml and the Dockerfile, as far as they can be checked without an engine."""

from __future__ import annotations

import re
import shutil
import tomllib
from fnmatch import fnmatch
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.access import Right
from core.errors import SettingsError
from stream.access import api_access, credentials, make_keys
from stream.alias_places import alias_file
from stream.data_folders import with_data
from stream.job_watch import disk_folders
from stream.local.foreground import main as foreground
from stream.local.parts import deployment_parts, flink_parts, part_checks
from stream.servers import listen
from stream.settings import SETTINGS_FILE_VARIABLE, Settings

Services = dict[str, dict[str, Any]]

OURS = ("broker", "topics", "jobmanager", "taskmanager", "search", "scorer", "storage", "job")
PART_OF = {name: name for name in ("broker", "topics", "jobmanager", "taskmanager")}
PART_OF |= {name: f"photos-{name}" for name in ("search", "scorer", "storage", "job")}


def _dockerfile(root: Path) -> list[str]:
    text = (root / "deploy" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _stages(root: Path) -> dict[str, list[str]]:
    stages: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in _dockerfile(root):
        if line.startswith("FROM "):
            lines = stages.setdefault(line.split()[-1], [])
        lines.append(line)
    return stages


def test_every_part_has_its_container(services: Services, container_settings: Settings) -> None:
    assert {PART_OF[name] for name in OURS} == {part.name for part in deployment_parts(container_settings)}
    assert set(services) == {*OURS, "secrets", "prometheus", "neardup"}


def test_containers_run_what_the_supervisor_runs(services: Services, container_settings: Settings) -> None:
    parts = {part.name: part for part in deployment_parts(container_settings)}
    foreign = {part.name for part in flink_parts(container_settings)}
    for name in OURS:
        part, command = parts[PART_OF[name]], services[name]["command"]
        if part.name in foreign:
            assert command == ["python", "-m", "stream.local.foreground", "run", part.name]
        else:
            assert command == ["neardup", *part.command[1:]]


def test_health_checks_ask_for_the_right_part(services: Services, container_settings: Settings) -> None:
    for name in set(OURS) - {"topics"}:
        check = services[name]["healthcheck"]["test"]
        assert check == ["CMD", "python", "-m", "stream.local.foreground", "check", PART_OF[name]]
        assert check[-1] in part_checks(container_settings)
    assert services["prometheus"]["healthcheck"]["test"][0] == "CMD"
    assert "healthcheck" not in services["topics"]  # it ends by itself


@pytest.mark.usefixtures("container_settings")
def test_a_health_check_can_be_run_as_written(
    services: Services, monkeypatch: pytest.MonkeyPatch, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(SETTINGS_FILE_VARIABLE, str(root / "neardup.toml"))
    monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__SCORER__HOST", "127.0.0.1")
    monkeypatch.setenv("NEARDUP_SIGNALS__PHOTOS__SCORER__METRICS_PORT", "9")
    assert foreground(services["scorer"]["healthcheck"]["test"][4:]) == 1
    assert "127.0.0.1:9/readyz" in capsys.readouterr().err


def test_the_order_of_starting_has_no_circle_and_waits_for_health(services: Services) -> None:
    list(
        TopologicalSorter(
            {name: set(service.get("depends_on", {})) for name, service in services.items()}
        ).static_order()
    )
    for service in services.values():
        for needed, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_completed_successfully":
                assert services[needed]["restart"] in ("on-failure", "no"), "it would be started again for ever"
            else:
                assert how["condition"] == "service_healthy"
                assert "healthcheck" in services[needed]


def test_containers_wait_for_what_the_supervisor_waits_for(services: Services, container_settings: Settings) -> None:
    service_of = {part: service for service, part in PART_OF.items()}
    for part in deployment_parts(container_settings):
        waits = set(services[service_of[part.name]].get("depends_on", {}))
        assert {service_of[name] for name in part.after} <= waits, part.name


def test_environment_names_are_settings(services: Services, container_settings: Settings) -> None:
    for service in services.values():
        for name in service.get("environment", {}):
            assert name.startswith("NEARDUP_")
            if name == SETTINGS_FILE_VARIABLE:
                continue
            value: Any = container_settings
            for step in name.removeprefix("NEARDUP_").lower().split("__"):
                value = value[step] if isinstance(value, dict) else getattr(value, step)


def test_every_host_is_a_service_that_listens_beyond_its_container(
    services: Services, container_settings: Settings
) -> None:
    signal = container_settings.signals["photos"]
    expected = {
        "broker": container_settings.kafka,
        "jobmanager": container_settings.flink,
        "search": signal.search,
        "scorer": signal.scorer,
        "storage": signal.storage,
    }
    for name, section in expected.items():
        assert section.host == name
        assert section.bind_host == "0.0.0.0"
        assert name in services
    assert (signal.api.host, signal.api.bind_host) == ("storage", "0.0.0.0")
    assert (signal.job_host, signal.job_bind_host) == ("job", "0.0.0.0")


def test_ports_are_those_of_the_settings_and_on_loopback_only(services: Services, container_settings: Settings) -> None:
    published = {name: port for name, service in services.items() for port in service.get("ports", [])}
    assert published == {
        "storage": "127.0.0.1:{0}:{0}".format(container_settings.signals["photos"].api.port),
        "prometheus": "127.0.0.1:19090:9090",
    }


def test_all_containers_read_the_same_settings_file(services: Services) -> None:
    for name in (*OURS, "neardup"):
        assert "./neardup.toml:/app/neardup.toml:ro" in services[name]["volumes"], name
        assert services[name]["environment"] == services["broker"]["environment"]


def test_what_is_mounted_exists_and_data_lies_where_the_settings_say(
    services: Services, container_settings: Settings, root: Path
) -> None:
    content = yaml.safe_load((root / "docker-compose.yml").read_text(encoding="utf-8"))
    mounts = {name: dict(volume.split(":")[:2] for volume in service["volumes"]) for name, service in services.items()}
    for service in mounts.values():
        for source in service:
            assert (root / source).exists() if source.startswith(".") else source in content["volumes"]
    signal = container_settings.signal_dir("photos", "index").parent
    assert mounts["search"]["index"] == str(signal / "index")
    # Snapshots outlive their container; on a volume of their own they are copies.
    assert mounts["search"]["snapshots"] == str(signal / "index-snapshots")
    assert mounts["storage"]["store"] == str(signal / "store")
    # Whoever writes, reads or picks a checkpoint sees the same folder under the same name.
    assert mounts["jobmanager"]["job"] == mounts["taskmanager"]["job"] == mounts["job"]["job"] == str(signal / "job")
    assert mounts["broker"]["kafka"] == str(container_settings.data_dir / "kafka")


def test_every_storage_server_reads_the_aliases_that_the_command_line_writes(
    services: Services, container_settings: Settings
) -> None:
    folder = str(alias_file(container_settings).parent)
    readers = [name for name, service in services.items() if " serve storage" in " ".join(service.get("command", []))]
    assert readers == ["storage"]
    for name in readers:
        assert f"aliases:{folder}:ro" in services[name]["volumes"]
    # A folder is mounted, not the file, which is replaced as a whole.
    assert f"aliases:{folder}" in services["neardup"]["volumes"]


def test_the_runner_sees_every_disk_that_no_other_part_shows(services: Services, container_settings: Settings) -> None:
    mounts = {name: [volume.split(":") for volume in service["volumes"]] for name, service in services.items()}
    shown = {str(folder) for folder in disk_folders(container_settings, "photos").values()}
    seen = {source: options for source, target, *options in mounts["job"] if target in shown}
    filled = {
        source
        for name in ("broker", "jobmanager", "taskmanager")
        for source, _, *options in mounts[name]
        if not source.startswith(".") and "ro" not in options
    }
    assert filled == {"kafka", "taskmanager", "job"} == set(seen)
    # The runner writes what it submits, and nothing of the others.
    assert {source for source, options in seen.items() if "ro" not in options} == {"job"}
    in_memory = {mount.split(":")[0] for mount in services["job"]["tmpfs"]}
    assert not in_memory & {target for source, target, *_ in mounts["job"] if source in seen}


SECRETS = {
    "secrets": {"parts", "read", "write", "flink"},
    "neardup": {"parts", "read", "write", "flink"},
    "jobmanager": {"flink"},
    "taskmanager": {"parts", "flink"},
    "job": {"parts", "flink"},
    "search": {"parts", "read", "write"},
    "scorer": {"parts", "read"},
    "storage": {"parts", "read", "write"},
}
"""The keys that each service is given; Flink's own parts never hold a key with which people write."""


def _secrets(service: dict[str, Any], folder: Path) -> dict[str, bool]:
    """The secrets that a service is given, and whether it may change them."""
    mounts = (volume.split(":") for volume in service["volumes"])
    return {
        Path(target).name: not options
        for source, target, *options in mounts
        if source == f"secret-{Path(target).name}" and Path(target).parent == folder
    }


def test_each_container_is_given_only_the_secrets_that_it_needs(
    services: Services, container_settings: Settings
) -> None:
    folder = container_settings.data_dir / "secrets"
    given = {name: _secrets(service, folder) for name, service in services.items()}
    assert {name: set(found) for name, found in given.items() if found} == SECRETS
    for name, found in given.items():
        assert all(may_write == (name in {"secrets", "neardup"}) for may_write in found.values()), name
        if found and name != "secrets":
            assert "secrets" in services[name]["depends_on"]
    assert services["secrets"]["command"] == ["neardup", "secrets", "make"]


def test_servers_that_others_reach_start_with_the_keys_of_their_container_alone(
    services: Services, container_settings: Settings, tmp_path: Path
) -> None:
    made = with_data(container_settings, tmp_path / "all")
    make_keys(made)
    for name in ("search", "scorer", "storage"):
        here = with_data(container_settings, tmp_path / name)
        signal = here.signals["photos"]
        with pytest.raises(SettingsError, match="neardup secrets make"):
            listen(here, getattr(signal, name))
        for key in _secrets(services[name], Path("/data/secrets")).keys() - {"flink"}:
            shutil.copytree(tmp_path / "all" / "secrets" / key, tmp_path / name / "secrets" / key)
        assert listen(here, getattr(signal, name)).access.anyone == frozenset()
    access = api_access(here, signal.api)
    assert access.rights(credentials(made, Right.READ).authorization()) == {Right.READ}
    assert access.rights(credentials(made, Right.WRITE).authorization()) == {Right.READ, Right.WRITE, Right.REQUIRE}


def test_networks_join_those_that_call_each_other_and_separate_the_rest(services: Services, root: Path) -> None:
    content = yaml.safe_load((root / "docker-compose.yml").read_text(encoding="utf-8"))
    joined = {name: set(service.get("networks", [])) for name, service in services.items()}
    servers = ("search", "scorer", "storage")
    calls = [(caller, server) for caller in ("taskmanager", "job", "neardup", "prometheus") for server in servers]
    calls += [(caller, "broker") for caller in ("topics", "jobmanager", "taskmanager", "job", "storage", "neardup")]
    calls += [(caller, "jobmanager") for caller in ("taskmanager", "job", "neardup", "prometheus")]
    calls += [("prometheus", "taskmanager"), ("prometheus", "job"), ("jobmanager", "taskmanager")]
    assert [call for call in calls if not joined[call[0]] & joined[call[1]]] == []
    # The broker knows no keys, so only those that read or write topics reach it.
    assert {name for name in services if joined[name] & joined["broker"]} == {
        *("broker", "topics", "jobmanager", "taskmanager", "job", "storage", "neardup")
    }
    assert not joined["secrets"]
    assert services["secrets"]["network_mode"] == "none"
    outside = {name for name, network in content["networks"].items() if not (network or {}).get("internal")}
    published = {name for name, service in services.items() if service.get("ports")}
    assert {name for name in services if joined[name] & outside} == published


def test_nobody_is_root_and_volumes_belong_to_the_user(services: Services, root: Path) -> None:
    stages = _stages(root)
    for name, service in services.items():
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", service["user"]), name
        assert service["cap_drop"] == ["ALL"]
        if "build" in service:
            assert f"USER {service['user']}" in stages[service["build"]["target"]]
    made = next(line for line in stages["base"] if "mkdir" in line).split()
    for service in services.values():
        owned = (
            made + [f"/app/{path}" for path in _handed_over(stages[service["build"]["target"]])]
            if "build" in service
            else []
        )
        for volume in service["volumes"]:
            source, target = volume.split(":")[:2]
            assert source.startswith(".") or target == "/prometheus" or target in owned


def _handed_over(stage: list[str]) -> list[str]:
    """The folders below /app that a stage gives to the user without rights."""
    return [path for line in stage for path in re.findall(r"chown -R neardup:neardup (\S+)", line)]


def test_no_container_writes_to_its_image(services: Services, container_settings: Settings) -> None:
    flink = str(container_settings.data_dir / "flink")
    for name, service in services.items():
        assert service["read_only"] is True, name
        memory = {mount.split(":")[0]: set(mount.split(":")[1].split(",")) for mount in service["tmpfs"]}
        assert "/tmp" in memory
        writable = {*memory, *(volume.split(":")[1] for volume in service["volumes"] if not volume.endswith(":ro"))}
        # Whoever renders Flink's home, or submits a job, writes there.
        assert (flink in writable) == (name in {"jobmanager", "taskmanager", "job", "neardup"}), name
        if service.get("image") == services["broker"]["image"]:
            # Docker mounts a tmpfs without the right to execute, which native libraries of Java need.
            assert all("exec" in options for options in memory.values()), name
        assert all(
            f"uid={service['user'].split(':')[0]}" in options for path, options in memory.items() if path == flink
        )


def test_the_compiled_kernels_of_the_image_are_found_and_kept(services: Services, root: Path) -> None:
    from search.index.compiled import kept_in

    mounts = {volume.split(":")[1] for volume in services["search"]["volumes"]}
    assert str(Path("/app") / kept_in(root / "search" / "index").parent.relative_to(root)) in mounts


def test_logs_are_rotated_and_many_files_may_be_open(services: Services) -> None:
    for name, service in services.items():
        options = service["logging"]["options"]
        assert service["logging"]["driver"] == "json-file"
        assert re.fullmatch(r"\d+m", options["max-size"]), name
        assert int(options["max-file"]) > 1
        assert service["ulimits"]["nofile"]["soft"] >= 65_536


def test_the_command_line_marks_a_stopped_job_where_the_runner_looks(services: Services) -> None:
    assert set(services["neardup"]["volumes"]) & set(services["job"]["volumes"]) >= {
        "job:/data/signals/photos/job",
        "./neardup.toml:/app/neardup.toml:ro",
    }


def test_files_that_comments_name_are_there(root: Path) -> None:
    text = (root / "docker-compose.yml").read_text(encoding="utf-8")
    named = re.findall(r"\b(?:examples|deploy|docs)/[\w./-]+", text)
    assert "examples/photos/photos.parquet" in named
    assert [name for name in named if not (root / name).exists()] == []


def test_images_say_what_they_are(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (label,) = [line for line in _stages(root)["base"] if line.startswith("LABEL ")]
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', label))
    assert labels.keys() == {"title", "description", "version", "licenses"}
    assert labels["title"] == project["name"]
    assert labels["version"] == project["version"]
    assert labels["licenses"] == project["license"]
    copied = next(line for line in _stages(root)["base"] if line.startswith("COPY pyproject.toml"))
    assert set(project["license-files"]) <= set(copied.split())


def test_the_java_parts_of_the_image_are_all_that_are_pinned(root: Path) -> None:
    profiles = set(re.findall(r"<id>(\w+)</id>", (root / "jvm" / "pom.xml").read_text(encoding="utf-8")))
    fetched = " ".join(_stages(root)["jars"])
    assert set(re.findall(r"-P (\w+) package", fetched)) == profiles
    # The plugin for S3 is fetched if it is asked for.
    assert "ARG S3=0" in fetched
    assert re.search(r'if \[ "\$S3" != 0 \]; then mvn [^;]*-P s3 package; fi', fetched)


def test_images_are_pinned(services: Services, root: Path) -> None:
    images = [service["image"] for service in services.values()]
    images += [line.split()[1] for line in _dockerfile(root) if line.startswith("FROM ")]
    for image in images:
        assert image == "base" or re.search(r":v?\d+\.\d+\.\d+", image), image


def test_images_are_built_from_pins_that_fit_the_project(services: Services, root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    stages = _stages(root)
    python = re.search(r"python:(\d+\.\d+)", stages["base"][0])
    assert python is not None
    assert project["requires-python"].startswith(f">={python[1]}")
    for service in services.values():
        if "build" not in service:
            continue
        assert (root / service["build"]["dockerfile"]).is_file()
        assert service["image"].endswith(f":{project['version']}")
        (install,) = [line for line in stages[service["build"]["target"]] if "pip install" in line]
        extras = re.search(r'-c constraints.txt "\.\[([a-z,]+)\]" && pip check', install)
        assert extras is not None
        assert set(extras[1].split(",")) <= project["optional-dependencies"].keys()


def test_what_is_copied_exists_and_is_sent_to_the_builder(root: Path) -> None:
    kept = [
        line[1:]
        for line in (root / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    for line in _dockerfile(root):
        if not line.startswith("COPY ") or "--from=" in line:
            continue
        *sources, _ = line.split()[1:]
        for source in sources:
            assert (root / source).exists(), source
            assert any(fnmatch(source, pattern) for pattern in kept), source


def test_every_package_is_in_every_image(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    for target in ("flink", "server"):
        copied = {line.split()[1] for line in _stages(root)[target] if line.startswith("COPY ")}
        assert packages <= copied


def test_every_container_has_a_limit_above_what_its_part_is_told_to_take(
    services: Services, container_settings: Settings
) -> None:
    limits = {name: service["deploy"]["resources"]["limits"] for name, service in services.items()}
    megabytes = {
        name: int(limit["memory"][:-1]) * {"M": 1, "G": 1024}[limit["memory"][-1]] for name, limit in limits.items()
    }
    assert megabytes["jobmanager"] > container_settings.flink.jobmanager_memory_mb
    assert megabytes["taskmanager"] > container_settings.flink.taskmanager_memory_mb
