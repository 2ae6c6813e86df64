"""Writes the notebooks from their scripts: python notebooks/build.py.

The scripts are in jupytext's percent format. GITHUB_OWNER in them, of the
badges and the install lines, is set here and nowhere else.
"""

import pathlib

import jupytext
import nbformat

GITHUB_OWNER = "OWNER"
FOLDER = pathlib.Path(__file__).parent


def scripts() -> list[pathlib.Path]:
    """The scripts of the notebooks, in their order."""
    return sorted(FOLDER.glob("[0-9]_*.py"))


def notebook_of(script: pathlib.Path) -> str:
    """The text of the .ipynb of a script: no outputs, nothing random."""
    text = script.read_text("utf-8").replace("GITHUB_OWNER", GITHUB_OWNER)
    notebook = jupytext.reads(text, fmt="py:percent")
    for index, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{index}"
    return nbformat.writes(notebook) + "\n"


if __name__ == "__main__":
    for script in scripts():
        script.with_suffix(".ipynb").write_text(notebook_of(script), "utf-8")
        print(script.with_suffix(".ipynb").name)
