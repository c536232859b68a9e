"""The files of deploy/ name what exists, pin what they run, and hold no secret."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml  # type: ignore[import-untyped]

from headrace.cli import root
from headrace.events.contract import TOPICS
from headrace.events.kafka.topics import topic_name
from headrace.events.rows import REJECTED
from headrace.gateway.app import ENDPOINTS
from headrace.gateway.guard import allowed_hosts
from headrace.gateway.scaling import NUMBERS
from headrace.settings import Settings, describe

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
MANIFESTS: list[dict[str, Any]] = [
    document
    for file in sorted((DEPLOY / "kubernetes").rglob("*.yaml"))
    for document in yaml.safe_load_all(file.read_text())
]
EXAMPLE = (DEPLOY / ".env.example").read_text()
SETTINGS = {variable for variable, _, _ in describe()}
# For Grafana's data source and the migration, not settings; see headrace.settings.IGNORED.
OUTSIDE = "HEADRACE_PG"


def walk(value: Any) -> Iterator[tuple[str, Any]]:
    """Return each (key, value) of nested mappings and lists; items of lists have the key ''."""
    items = value.items() if isinstance(value, dict) else (("", each) for each in value)
    for key, each in items:
        yield key, each
        if isinstance(each, dict | list):
            yield from walk(each)


def kind(name: str) -> list[dict[str, Any]]:
    return [manifest for manifest in MANIFESTS if manifest["kind"] == name]


def containers() -> list[dict[str, Any]]:
    found = [each for key, each in walk(MANIFESTS) if key == "containers"]
    return [container for each in found for container in each]


def test_every_image_is_pinned() -> None:
    pulled = [service["image"] for service in SERVICES.values()]
    pulled += [manifest["spec"]["image"] for manifest in kind("RisingWave")]
    pulled += re.findall(r"^FROM (\S+)", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    for image in pulled:
        assert re.search(r":v?\d+\.\d+\.\d+", image), image
    (tagged,) = kind("Kustomization")[0]["images"]
    assert all(container["image"] == tagged["name"] for container in containers())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert tagged["newTag"] == version
    assert SERVICES["gateway"]["image"] == f"headrace:{version}"
    assert f"headrace:{version}" in (DEPLOY / "Dockerfile").read_text()


def test_both_run_the_same_versions() -> None:
    assert kind("RisingWave")[0]["spec"]["image"] == SERVICES["risingwave"]["image"]
    assert SERVICES["kafka"]["image"].endswith(":" + kind("Kafka")[0]["spec"]["kafka"]["version"])


def test_every_setting_exists() -> None:
    text = "\n".join(
        file.read_text()
        for file in sorted(DEPLOY.rglob("*"))
        if file.is_file() and file.name != "README.md"
    )
    named = set(re.findall(r"HEADRACE_\w+", text))
    assert {name for name in named if not name.startswith(OUTSIDE)} <= SETTINGS
    assert len(named) > 8


def test_the_settings_of_compose_are_sound() -> None:
    given = {
        key: str(value)
        for key, value in SERVICES["gateway"]["environment"].items()
        if not key.startswith(OUTSIDE)
    }
    for engine in ("risingwave", "postgres"):
        assert Settings.load(given | {"HEADRACE_ENGINE": engine}).kafka == "kafka:9092"


def test_the_settings_of_kubernetes_are_sound() -> None:
    (config,) = kind("ConfigMap")
    settings = Settings.load(config["data"] | {"HEADRACE_REGISTRY_DSN": "host=postgres-rw"})
    topics = {
        topic["spec"].get("topicName", topic["metadata"]["name"]): topic["spec"]
        for topic in kind("KafkaTopic")
    }
    assert set(topics) == {topic_name(settings, topic) for topic in (*TOPICS, REJECTED)}
    for spec in topics.values():
        assert spec["partitions"] == settings.kafka_partitions
        assert spec["replicas"] == settings.kafka_replicas
        assert spec["config"]["retention.ms"] == 3_600_000 * settings.kafka_retention_h
        assert 1 < spec["config"]["min.insync.replicas"] < settings.kafka_replicas
    assert kind("KafkaNodePool")[0]["spec"]["replicas"] >= settings.kafka_replicas


def test_every_variable_of_compose_is_in_the_example() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    example = dict(re.findall(r"^([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE))
    required = set(re.findall(r"\$\{(\w+):\?", text))
    assert required <= set(example)
    assert set(example) - {"COMPOSE_PROFILES"} <= set(re.findall(r"\$\{(\w+):", text))
    assert not set(re.findall(r"\$\{?(\w+)\}", text)), "each needs a message or a default"


def test_secrets_come_from_outside() -> None:
    for name, value in re.findall(r"^([A-Z_]*(?:PASSWORD|KEY))=(.*)$", EXAMPLE, re.MULTILINE):
        assert value == "", name
    for key, value in walk([SERVICES]):
        if isinstance(value, str) and re.search(r"PASSWORD|SECRET|TOKEN|_KEY", str(key)):
            assert re.fullmatch(r"\$\{[A-Z_]+:\?[^}]+\}", value), key
        if isinstance(value, str) and "password=" in value:
            assert re.search(r"password='?\$\{", value), key
    assert not kind("Secret")
    for container in containers():
        for variable in container.get("env", []):
            if re.search("PASSWORD|_KEY", variable["name"]):
                assert variable["valueFrom"]["secretKeyRef"], variable


def test_gateways_know_their_names_and_their_owner() -> None:
    given = SERVICES["gateway"]["environment"]
    assert given["HEADRACE_ALLOWED_HOSTS"] == "${ALLOWED_HOSTS:-gateway}"
    assert "HEADRACE_OWNER_KEY" in given
    assert re.findall(r"^ALLOWED_HOSTS=(.*)$", EXAMPLE, re.MULTILINE) == ["gateway"]
    (config,) = kind("ConfigMap")
    (namespace,) = kind("Namespace")
    names = allowed_hosts(Settings(allowed_hosts=config["data"]["HEADRACE_ALLOWED_HOSTS"]))
    (service,) = (each["metadata"]["name"] for each in kind("Service"))
    space = f"{service}.{namespace['metadata']['name']}"
    assert names == [service, space, f"{space}.svc", f"{space}.svc.cluster.local"]
    # Several gateways need the same key.
    (gateway,) = (each for each in containers() if each["name"] == "gateway")
    assert "HEADRACE_OWNER_KEY" in {variable["name"] for variable in gateway["env"]}


def test_ports_are_open_to_this_host_only() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 5
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert {manifest["spec"].get("type", "ClusterIP") for manifest in kind("Service")} == {
        "ClusterIP"
    }


def test_mounted_paths_and_volumes_exist() -> None:
    for service in SERVICES.values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            known = (DEPLOY / source).exists() if "/" in source else source in COMPOSE["volumes"]
            assert known, mount
    build = SERVICES["gateway"]["build"]
    context = DEPLOY / build["context"]
    assert (context / build["dockerfile"]).is_file()
    copied = re.findall(r"^COPY (.*) \S+$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    sources = " ".join(copied).split()
    assert all((context / source).exists() for source in sources)
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text()
    assert set(re.findall(r"^!(\S+)$", ignored, re.MULTILINE)) == set(sources)
    assert "deploy/.env" in (ROOT / ".gitignore").read_text().splitlines()


def commands() -> dict[str, list[str]]:
    found = {
        name: service["command"]
        for name, service in SERVICES.items()
        if service["image"].startswith("headrace:") and "entrypoint" not in service
    }
    return found | {
        f"kubernetes {c['name']}": c["args"] for c in containers() if "command" not in c
    }


@pytest.mark.parametrize("name", commands())
def test_commands_are_real(name: str) -> None:
    command, *arguments = commands()[name]
    assert command == name.split()[-1]
    root.commands[command].make_context(command, arguments)


def test_the_scripts_of_the_migration_are_the_same_and_real() -> None:
    (script,) = SERVICES["migrate"]["command"]
    (job,) = kind("Job")
    assert job["spec"]["template"]["spec"]["containers"][0]["args"] == [script]
    called = [shlex.split(line)[1] for line in script.splitlines() if line.startswith("headrace ")]
    assert called == ["migrate", "psql"] and set(called) <= root.commands.keys()


def test_every_service_has_a_healthcheck_limits_and_its_dependencies() -> None:
    for name, service in SERVICES.items():
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}, name
        if name != "migrate":
            assert service["healthcheck"]["test"], name
            assert service["restart"] == "unless-stopped", name
        for needed in service.get("depends_on", {}):
            assert needed in SERVICES, name
    profiles = {
        name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service
    }
    assert profiles == {
        "risingwave": ["risingwave"], "ingest": ["postgres"], "embedder": ["postgres"],
    }  # fmt: skip


def test_containers_of_kubernetes_are_limited_and_not_root() -> None:
    for manifest in [*kind("Deployment"), *kind("Job")]:
        pod = manifest["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            assert container["resources"]["limits"]["memory"]
            assert not container["securityContext"]["allowPrivilegeEscalation"]
    uid = kind("Job")[0]["spec"]["template"]["spec"]["securityContext"]["runAsUser"]
    assert f"--uid {uid} headrace" in (DEPLOY / "Dockerfile").read_text()


def test_the_image_installs_extras_that_exist() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (named,) = re.findall(r"'\.\[([\w,]+)\]'", text)
    assert set(named.split(",")) <= set(project["optional-dependencies"])
    assert text.index("USER headrace") < text.index("ENTRYPOINT")


def test_the_kustomization_has_all_files() -> None:
    (kustomization,) = kind("Kustomization")
    files = {file.name for file in (DEPLOY / "kubernetes").glob("*.yaml")}
    assert set(kustomization["resources"]) == files - {"kustomization.yaml"}


# The fields that were read in the operators' documentation and source, as far as they are used.
FIELDS = {
    ("kafka.strimzi.io/v1", "KafkaNodePool"): "replicas roles storage resources jvmOptions",
    ("kafka.strimzi.io/v1", "Kafka"): "kafka entityOperator",
    ("kafka.strimzi.io/v1", "KafkaTopic"): "partitions replicas config topicName",
    ("postgresql.cnpg.io/v1", "Cluster"): "instances bootstrap storage resources",
    ("postgresql.cnpg.io/v1", "Database"): "name owner cluster",
    ("keda.sh/v1alpha1", "ScaledObject"): (
        "scaleTargetRef minReplicaCount maxReplicaCount fallback triggers"
    ),
    ("risingwave.risingwavelabs.com/v1alpha1", "RisingWave"): (
        "image metaStore stateStore components"
    ),
}


def test_custom_resources_have_fields_that_were_read() -> None:
    custom = [each for each in MANIFESTS if (each["apiVersion"], each["kind"]) in FIELDS]
    assert {(each["apiVersion"], each["kind"]) for each in custom} == set(FIELDS)
    for each in custom:
        known = FIELDS[each["apiVersion"], each["kind"]].split()
        assert set(each["spec"]) <= set(known), each["metadata"]["name"]
    wave = kind("RisingWave")[0]["spec"]
    assert set(wave["components"]) == {"meta", "frontend", "compute", "compactor"}
    for component in wave["components"].values():
        assert set(component) == {"nodeGroups"}
        for group in component["nodeGroups"]:
            assert set(group) == {"name", "replicas", "template"}


def test_named_secrets_and_services_exist() -> None:
    readme = (DEPLOY / "README.md").read_text()
    named = {
        each.get("name")
        for key, each in walk(MANIFESTS)
        if key in ("secretKeyRef", "secretRef", "secret") and isinstance(each, dict)
    } | {each for key, each in walk(MANIFESTS) if key == "secretName"}
    for name in named:
        assert f"create secret generic {name}" in readme, name
    for name in {each["name"] for key, each in walk(MANIFESTS) if key == "configMap"}:
        assert f"create configmap {name}" in readme, name
    database = kind("Cluster")[0]["metadata"]["name"] + "-rw"
    assert kind("RisingWave")[0]["spec"]["metaStore"]["postgresql"]["host"] == database
    data = kind("ConfigMap")[0]["data"]
    assert (
        f"host={kind('RisingWave')[0]['metadata']['name']}-frontend port=4567"
        in (data["HEADRACE_DSN"])
    )
    assert data["HEADRACE_KAFKA"] == f"{kind('Kafka')[0]['metadata']['name']}-kafka-bootstrap:9092"


def test_keda_asks_the_gateway_for_a_number_that_it_has() -> None:
    (scaled,) = kind("ScaledObject")
    assert scaled["spec"]["scaleTargetRef"]["name"] in {
        each["metadata"]["name"] for each in kind("Deployment")
    }
    (trigger,) = scaled["spec"]["triggers"]
    asked, path = urlsplit(trigger["metadata"]["url"]), "/v1/scaling"
    names = kind("ConfigMap")[0]["data"]["HEADRACE_ALLOWED_HOSTS"].split(",")
    assert asked.hostname in names and asked.path == path and f"GET {path}" in ENDPOINTS
    assert trigger["metadata"]["valueLocation"] in NUMBERS
