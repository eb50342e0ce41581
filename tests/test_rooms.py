"""What import-linter cannot say: names that one file alone may use, what an import loads, which hooks there are."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent


def test_imports_go_one_way() -> None:
    code = "from importlinter.cli import lint_imports_command as lint; lint()"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_tune_is_named_in_one_file() -> None:
    users = set[str]()
    for path in (ROOT / "vitok").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            if module.startswith("ray.tune") or any(f"{module}.{name}".strip(".").startswith("ray.tune") for name in names):
                users.add(path.relative_to(ROOT).as_posix())
    assert users == {"vitok/orchestration/sweep.py"}


def test_the_package_loads_neither_torch_nor_ray() -> None:
    """Public names are imported when they are first used."""
    code = (
        "import sys, vitok; heavy = {'torch', 'ray', 'mlflow', 'numpy', 'deepspeed'} & set(sys.modules); assert not heavy, heavy; "
        "vitok.Study, vitok.presets, vitok.claims, vitok.fits, vitok.figures; heavy = {'torch', 'ray', 'mlflow', 'matplotlib'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules); print(sorted(vitok._PUBLIC))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    stub = ast.parse((ROOT / "vitok" / "__init__.pyi").read_text())
    typed = {alias.asname for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert set(ast.literal_eval(result.stdout)) == typed, "the stub names what there is"


def test_public_names_are_there() -> None:
    import vitok

    assert all(getattr(vitok, name) is not None for name in vitok._PUBLIC)
    assert set(vitok._PUBLIC) <= set(dir(vitok))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = vitok.nothing


def test_hooks_are_the_linters_of_continuous_integration() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    script = (ROOT / ".ci" / "run").read_text()
    for hook in hooks:
        command = " ".join(word for word in hook["entry"].split() if word != "--force-exclude")
        assert command in script, f"{command} is a hook, and .ci/run does not run it"
    assert len(hooks) == 5


def test_files_are_written_in_one_way() -> None:
    """Write-then-rename stands in `storage/atomic.py` alone; MLflow is opened by a session alone."""
    renames, trackers = set[str](), set[str]()
    for path in (ROOT / "vitok").rglob("*.py"):
        text, name = path.read_text(), path.relative_to(ROOT / "vitok").as_posix()
        if "partial.replace(" in text:
            renames.add(name)
        if "Tracker.open(" in text:
            trackers.add(name)
    assert renames <= {"storage/atomic.py", "storage/mirror.py", "train/checkpoint/store.py", "storage/filesystem.py"}
    assert trackers == {"orchestration/session.py"}
