"""Writes the notebooks from their scripts: python notebooks/build.py.

The scripts are in jupytext's percent format. Each notebook gets its badge
below the title, then the cells of colab.py, which install the package there.
Both have the address of the project from setup.py.
"""

import pathlib
import re

import jupytext
import nbformat

FOLDER = pathlib.Path(__file__).parent
URL = re.search(
    r'^URL = "([^"]+)"',
    (FOLDER.parent / "setup.py").read_text("utf-8"),
    re.MULTILINE,
)[1]
_COLAB = "https://colab.research.google.com"
_BADGE = (
    f"[![Open in Colab]({_COLAB}/assets/colab-badge.svg)]"
    f"({URL.replace('https://github.com', f'{_COLAB}/github')}"
    "/blob/main/notebooks/{}.ipynb)"
)


def scripts() -> list[pathlib.Path]:
    """The scripts of the notebooks, in their order."""
    return sorted(FOLDER.glob("[0-9]_*.py"))


def notebook_of(script: pathlib.Path) -> str:
    """The text of the .ipynb of a script: no outputs, nothing random."""
    notebook = _read(script)
    title = notebook.cells[0]
    heading, text = title.source.split("\n", 1)
    title.source = f"{heading}\n\n{_BADGE.format(script.stem)}\n{text}"
    notebook.cells[1:1] = _read(FOLDER / "colab.py").cells
    for index, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{index}"
    return nbformat.writes(notebook) + "\n"


def _read(script):
    text = script.read_text("utf-8").replace("PROJECT_URL", URL)
    return jupytext.reads(text, fmt="py:percent")


if __name__ == "__main__":
    for script in scripts():
        script.with_suffix(".ipynb").write_text(notebook_of(script), "utf-8")
        print(script.with_suffix(".ipynb").name)
