"""What import-linter cannot say: names that one file alone may use."""

import ast
import subprocess
import sys
from pathlib import Path

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
