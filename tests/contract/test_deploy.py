"""The files of deploy/: the programs that read them can, and no secret is in them."""

from __future__ import annotations

import asyncio
import configparser
import importlib.resources
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import jsonschema
import kubernetes_validate
import pytest
import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
ROOT = DEPLOY.parent
README = (DEPLOY / "README.md").read_text("utf-8")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
SERVICES = COMPOSE["services"]
OBJECTS = [
    document
    for name in ("tracking", "dask", "search")
    for document in yaml.safe_load_all((DEPLOY / "kubernetes" / f"{name}.yaml").read_text("utf-8"))
]
(CLUSTER,) = (thing for thing in OBJECTS if thing["kind"] == "DaskCluster")
# The Dask operator's own resource is made of Kubernetes' (its field: what it is a part of there).
PARTS = {"scheduler": {"spec", "service"}, "worker": {"replicas", "spec"}}


def as_object(kind: str, spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "part"}, "spec": spec}


PODS = [as_object("Pod", CLUSTER["spec"][part]["spec"]) for part in PARTS]
SERVICE = as_object("Service", CLUSTER["spec"]["scheduler"]["service"])


def pod_specs() -> Iterator[dict[str, Any]]:
    for thing in [*OBJECTS, *PODS]:
        if thing["kind"] == "Pod":
            yield thing["spec"]
        elif "template" in thing.get("spec", {}):
            yield thing["spec"]["template"]["spec"]


def test_every_file_is_in_the_readme() -> None:
    ignored = {"README.md"}
    names = {path.name for path in DEPLOY.iterdir()} - ignored
    table = README.partition("\n\n## ")[0]
    assert {name.rstrip("/") for name in re.findall(r"`([\w./]+)`", table)} >= names
    assert "`deploy/`" in (ROOT / "README.md").read_text("utf-8")


def test_compose_reads_its_file() -> None:
    schemas = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor"
    schema = json.loads((schemas / "compose-spec.json").read_text("utf-8"))
    jsonschema.validate(COMPOSE, schema)


@pytest.mark.parametrize(
    "thing",
    [thing for thing in OBJECTS if thing is not CLUSTER] + [*PODS, SERVICE],
    ids=lambda thing: f"{thing['kind']}-{thing['metadata']['name']}",
)
def test_kubernetes_reads_its_files(thing: dict[str, Any]) -> None:
    kubernetes_validate.validate(thing, kubernetes_validate.latest_version(), strict=True)


def test_the_operator_reads_the_cluster() -> None:
    assert CLUSTER["apiVersion"] == "kubernetes.dask.org/v1"
    assert set(CLUSTER) == {"apiVersion", "kind", "metadata", "spec"}
    assert {part: set(made) for part, made in CLUSTER["spec"].items()} == PARTS
    selector = CLUSTER["spec"]["scheduler"]["service"]["selector"]
    assert selector["dask.org/cluster-name"] == CLUSTER["metadata"]["name"]
    names = [p["name"] for p in CLUSTER["spec"]["scheduler"]["service"]["ports"]]
    assert names == ["tcp-comm", "http-dashboard"]  # those that the operator looks for


def test_what_pods_mount_is_made() -> None:
    made = set(re.findall(r"create (?:secret generic|configmap) ([\w-]+)", README))
    made |= {t["metadata"]["name"] for t in OBJECTS if t["kind"] == "PersistentVolumeClaim"}
    for spec in pod_specs():
        volumes = {volume["name"]: volume for volume in spec.get("volumes", ())}
        for volume in volumes.values():
            source = volume.get("secret", {}).get("secretName")
            source = source or volume.get("configMap", {}).get("name")
            source = source or volume.get("persistentVolumeClaim", {}).get("claimName")
            assert source in made or "emptyDir" in volume
        for container in spec["containers"]:
            mounted = {mount["name"] for mount in container.get("volumeMounts", ())}
            assert mounted - {"database"} == set(volumes)
            for entry in container.get("env", ()):
                taken = entry.get("valueFrom", {}).get("secretKeyRef")
                assert taken is None or f"--from-literal={taken['key']}=" in README


def test_pods_can_do_little() -> None:
    for spec in pod_specs():
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["automountServiceAccountToken"] is False
        for container in spec["containers"]:
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"]
            assert container["resources"]["limits"]["memory"]


SECRET = re.compile(r"PASSWORD|SECRET|KEY", re.IGNORECASE)


def test_no_password_is_written_down_or_has_a_default() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if SECRET.search(name):
                assert re.fullmatch(r"\$\{\w+(:\?[^{}]*|:-\$\{\w+:\?\})\}", value), name
    for spec in pod_specs():
        for container in spec["containers"]:
            for entry in container.get("env", ()):
                assert not SECRET.search(entry["name"]) or "valueFrom" in entry


def test_nothing_listens_to_other_machines_unless_asked_to() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert len(ports) == 2
    assert all(re.fullmatch(r"\$\{\w+:-127\.0\.0\.1\}:\d+:\d+", port) for port in ports)
    kinds = [
        thing["spec"].get("type") for thing in [*OBJECTS, SERVICE] if thing["kind"] == "Service"
    ]
    assert set(kinds) <= {None, "ClusterIP"}


def test_images_are_pinned_and_name_no_host() -> None:
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    images = re.findall(r"^FROM (\S+)$", text, re.MULTILINE)
    images += [service["image"] for service in SERVICES.values()]
    images += [container["image"] for spec in pod_specs() for container in spec["containers"]]
    assert {image for image in images if not re.fullmatch(r"\w+:\d[\w.-]*", image)} == {"imdbtune"}


def test_what_is_mounted_is_there() -> None:
    for service in SERVICES.values():
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            known = source in COMPOSE["volumes"] or source == "./certificates"
            assert known or (DEPLOY / source).is_file(), source


def test_the_image_has_all_that_the_package_is_made_of() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    text = (DEPLOY / "Dockerfile").read_text("utf-8")
    copied = set(re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE))
    copied = {name for names in copied for name in names.split()}
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], *project["project"]["license-files"]}
    assert copied == needed | {project["project"]["readme"], "pyproject.toml", "constraints.txt"}
    let_in = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8")
    assert set(re.findall(r"^!(.+)$", let_in, re.MULTILINE)) == copied


def mlflow_server() -> Any:
    """Return MLflow's command, whose import takes seconds."""
    from mlflow.cli import server

    return server


def test_the_server_is_started_with_flags_that_it_has() -> None:
    flags = {flag for option in mlflow_server().params for flag in option.opts}
    (tracking,) = (t for t in OBJECTS if t["kind"] == "Deployment")
    container = tracking["spec"]["template"]["spec"]["containers"][0]
    for words in (SERVICES["tracking"]["command"], [*container["command"], *container["args"]]):
        assert words[:2] == ["mlflow", "server"]
        assert {word.partition("=")[0] for word in words[2:]} <= flags


def test_the_page_on_the_server_says_what_the_files_do() -> None:
    page = (ROOT / "docs" / "tracking_server.md").read_text("utf-8")
    told, used = configparser.ConfigParser(), configparser.ConfigParser()
    told.read_string(page.partition("```ini\n")[2].partition("```")[0])
    used.read_string((DEPLOY / "auth.ini").read_text("utf-8"))
    assert told["mlflow"].keys() == used["mlflow"].keys()
    for name in told["mlflow"].keys() - {"database_uri"}:
        assert told["mlflow"][name] == used["mlflow"][name]
    start = page.partition("## Start")[2].partition("\n## ")[0]
    flags = {flag for option in mlflow_server().params for flag in option.opts}
    assert set(re.findall(r" (--[a-z-]+)", start)) <= flags | {"--ssl-keyfile"}


def leaves(tree: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The settings in Dask's way of naming them, with their values."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def test_dask_knows_its_settings() -> None:
    import distributed

    text = (Path(distributed.__file__).parent / "distributed.yaml").read_text("utf-8")
    known = dict(leaves(yaml.safe_load(text)))
    ours = yaml.safe_load((DEPLOY / "dask.yaml").read_text("utf-8"))
    assert ours["distributed"]["nanny"].pop("pre-spawn-environ").keys() == {"GLIBC_TUNABLES"}
    assert dict(leaves(ours)).keys() <= known.keys()


pytestmark = pytest.mark.xdist_group("deploy")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("made") / "certificates"
    make = [str(DEPLOY / "certificates.sh"), str(folder), "tracking", "192.0.2.7"]
    subprocess.run(make, check=True, capture_output=True)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    subprocess.run(make, check=True, capture_output=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    return folder


def settings_of(certificates: Path) -> dict[str, Any]:
    text = (DEPLOY / "dask.yaml").read_text("utf-8")
    return dict(leaves(yaml.safe_load(text.replace("/certificates", str(certificates)))))


def test_dask_lets_in_only_who_has_a_certificate(certificates: Path) -> None:
    assert all(path.stat().st_mode & 0o077 == 0 for path in certificates.iterdir())
    shown = subprocess.run(
        [
            "openssl",
            "x509",
            "-in",
            str(certificates / "tracking.pem"),
            "-noout",
            "-ext",
            "subjectAltName",
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "DNS:tracking" in shown
    assert "IP Address:192.0.2.7" in shown
    with dask.config.set(settings_of(certificates)):
        asyncio.run(talk(certificates))


async def talk(certificates: Path) -> None:
    from distributed import Client, Scheduler, Worker
    from distributed.security import Security

    async with (
        Scheduler(host="127.0.0.1", port=0, dashboard=False) as scheduler,
        Worker(scheduler.address, nthreads=1, dashboard=False),
        Client(scheduler.address, asynchronous=True, set_as_default=False) as client,
    ):
        assert scheduler.address.startswith("tls://")
        assert await client.submit(sum, (1, 2)) == 3
        stranger = Security.temporary()
        with pytest.raises(OSError, match=r"Timed out|certificate|SSL"):
            await Client(scheduler.address, security=stranger, asynchronous=True, timeout=2)


SLURM = {
    # Runs the job at once, on this machine.
    "sbatch": 'cp "$1" job.sh; bash job.sh >job.log 2>&1 & echo $! >job.pid; echo "batch job 7"',
    "scancel": 'pkill --parent "$(cat job.pid)"',
}
SUM = """
import os
from distributed import Client
with Client(os.environ["IMDBTUNE_SEARCH_CLUSTER"], timeout=60) as client:
    client.wait_for_workers(2, timeout=60)
    print(client.submit(sum, (1, 2)).result())
"""


def test_a_command_runs_with_slurms_workers(certificates: Path, tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    import dask_jobqueue  # which takes Ctrl-C for itself

    signal.signal(signal.SIGINT, handler)
    ours = yaml.safe_load((DEPLOY / "slurm" / "jobqueue.yaml").read_text("utf-8"))
    text = (Path(dask_jobqueue.__file__).parent / "jobqueue.yaml").read_text("utf-8")
    slurm = ours["jobqueue"]["slurm"]
    assert set(slurm) <= set(yaml.safe_load(text)["jobqueue"]["slurm"])
    here = {"cores": 2, "processes": 2, "memory": "2GiB", "interface": "lo"}
    here["job-script-prologue"] = slurm["job-script-prologue"][1:]
    (tmp_path / "dask").mkdir()
    settings = yaml.safe_dump({"jobqueue": {"slurm": slurm | here}})
    (tmp_path / "dask" / "jobqueue.yaml").write_text(settings)
    security = (DEPLOY / "dask.yaml").read_text("utf-8")
    security = security.replace("/certificates", str(certificates))
    (tmp_path / "dask" / "dask.yaml").write_text(security)
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, script in SLURM.items():
        (programs / name).write_text(f"#!/bin/bash\n{script}\n")
        (programs / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "DASK_CONFIG": str(tmp_path / "dask"),
    }
    command = [sys.executable, str(DEPLOY / "slurm" / "with_workers.py"), "--jobs", "1", "--"]
    done = subprocess.run(
        [*command, sys.executable, "-c", SUM],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "3\n", done.stderr + (tmp_path / "job.log").read_text()
    script = (tmp_path / "job.sh").read_text()
    assert "#SBATCH --cpus-per-task=2\n" in script
    assert "#SBATCH -t 04:00:00\n" in script


def test_the_sbatch_script_is_a_script() -> None:
    subprocess.run(["bash", "-n", str(DEPLOY / "slurm" / "search.sbatch")], check=True)
    subprocess.run(["sh", "-n", str(DEPLOY / "certificates.sh")], check=True)
