"""pdfTeX, where there is one."""

import shutil
import subprocess
from pathlib import Path

import pytest


def compile_latex(folder: Path, tables: list[str]) -> str:
    """What pdfTeX says of some tables in a document; it must not stop, or lack a character."""
    if not shutil.which("pdflatex"):
        pytest.skip("there is no pdflatex on this machine")
    body = "\n".join(tables)
    (folder / "page.tex").write_text(
        f"\\documentclass{{article}}\n\\usepackage{{booktabs}}\n\\begin{{document}}\n{body}\\end{{document}}\n"
    )
    command = ["pdflatex", "-no-shell-escape", "-halt-on-error", "-interaction=nonstopmode", "page.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in done.stdout
    return done.stdout
