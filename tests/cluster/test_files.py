"""Every file of clusters/ is right; what is not a file of a cluster is one clear line."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
FILES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "clusters").rglob("*") if path.is_file())
Call = Callable[..., tuple[int, str, str]]


def test_every_file_is_right(call_vitok: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    code, shown, errors = call_vitok("cluster", "validate", *FILES, "--json")
    found = {row["file"]: row for row in json.loads(shown)}
    assert code == 0, errors
    assert set(found) == set(FILES) and len(FILES) >= 17
    assert {row["kind"] for row in found.values()} == {
        "a Ray launcher file", "Kubernetes manifests", "a compose file", "a runtime environment", "a script that starts Ray",
        "a Dockerfile", "a constraints file", "an AWS policy", "a Google Cloud role", "a price file", "a text for people",
    }  # fmt: skip
    assert found["clusters/gcp.yaml"]["to_fill_in"] == ["<project>", "<gpu-image>", "<subnet>"]


def test_what_is_to_be_filled_in_is_a_note(call_vitok: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    code, shown, errors = call_vitok("cluster", "validate", "clusters/runtime_env.yaml")
    assert (code, errors) == (0, "")
    assert shown == "clusters/runtime_env.yaml: right (a runtime environment); to fill in: <bucket> <mlflow-host>\n"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.yaml", b"", "is empty"),
        ("spaces.json", b"  \n", "is empty"),
        ("cut.yaml", b"cluster_name: [vitok", "is not YAML: line 1"),
        ("twice.yaml", b"cluster_name: a\ncluster_name: b\n", "line 2: the key 'cluster_name' stands twice"),
        ("tab.yaml", b"cluster_name:\n\tx: 1\n", "is not YAML: line 2"),
        ("list.yaml", b"- 1\n- 2\n", "holds no mapping"),
        ("text.yaml", b"only words\n", "holds no mapping"),
        ("object.yaml", b"x: !!python/object/apply:os.system [id]\n", "is not YAML: line 1"),
        ("binary.yaml", bytes(range(128, 256)), "is not text in UTF-8"),
        ("cut.json", b'{"Version": ', "is not JSON"),
        ("cut.toml", b"[aws", "is not TOML"),
        ("other.yaml", b"foo: bar\n", "of no known kind; known are a Ray launcher file"),
        ("other.sh", b"#!/bin/sh\necho\n", "of no known kind"),
        ("two.yaml", b"a: 1\n---\nb: 2\n", "of no known kind"),
        ("mixed.yaml", b"kind: Service\napiVersion: v1\n---\n- 1\n", "of no known kind"),
        ("bare.yaml", b"cluster_name: x\n", "'provider' is a required property"),
        ("odd.yaml", b"cluster_name: x\nprovider: aws\n", "provider: Ray's own schema: 'aws' is not of type 'object'"),
        ("null.yaml", b"cluster_name: x\nprovider: {type: aws}\navailable_node_types:\n", "available_node_types: Ray's own schema"),
        ("local.yaml", b"cluster_name: x\nprovider: {type: local, head_ip: 1.2.3.4, worker_ips: []}\n", "only aws and gcp are known"),
        ("kind.yaml", b"apiVersion: v1\nkind: Servise\nmetadata: {name: x}\n", "did you mean Service?"),
        ("meta.yaml", b"apiVersion: v1\nkind: Service\nmetadata: 3\n", "Service.0.metadata"),
        ("kinds.yaml", b"apiVersion: v1\nkind: [1]\n", "kind '[1]' is not known"),
    ],
)  # fmt: skip
def test_bad_files_are_one_line(call_vitok: Call, tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    code, shown, errors = call_vitok("cluster", "validate", str(tmp_path / name))
    assert (code, shown) == (1, "")
    assert words in errors and "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("error: ") and " in 1 of 1 file(s)" in errors


def test_bad_arguments(call_vitok: Call, tmp_path: Path) -> None:
    assert call_vitok("cluster", "validate") == (2, "", "error: name files, as in: vitok cluster validate clusters/aws.yaml\n")
    code, _, errors = call_vitok("cluster", "validate", str(tmp_path / "none.yaml"))
    assert code == 2 and errors.endswith("none.yaml: there is no such file\n")
    code, _, errors = call_vitok("cluster", "validate", str(tmp_path))
    assert code == 2 and errors.count("\n") == 1


def test_all_problems_of_all_files_are_listed(call_vitok: Call, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("env_vars: {HF_TOKEN: hf_abc}\nworking_dri: .\n")
    (tmp_path / "b.json").write_text('{"Version": "2012-10-17", "Statement": []}')
    code, shown, errors = call_vitok("cluster", "validate", str(tmp_path / "a.yaml"), str(tmp_path / "b.json"), "--json")
    first, second = json.loads(shown)
    assert code == 1 and "3 problem(s) in 2 of 2 file(s)" in errors
    assert [row["where"] for row in first["problems"]] == ["working_dir", "working_dri"]
    assert "did you mean working_dir?" in first["problems"][1]["what"] and second["problems"][0]["where"] == "Statement"


def test_the_image_pins_every_dependency_within_its_bounds() -> None:
    lines = [line for line in (ROOT / "clusters/image/constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for dependency in map(Requirement, project["dependencies"]):
        version = pinned.get(canonicalize_name(dependency.name))
        assert version and dependency.specifier.contains(version), f"{dependency}: {version}"
