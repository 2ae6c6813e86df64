"""Puts pages into the site that stand elsewhere in the repository.

Their links, and those of the pages in docs/, are written as in the repository,
where GitHub follows them. In the site a link to a file that is no page of it
becomes a link to the file's source.
"""

import pathlib
import posixpath
import re

import jupytext
from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).parent.parent
_SHARED = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "results/*.md",
    "results/**/*.png",
    "results/**/*.gif",
    "tfds_physics/**/README.md",
)
_LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")
# One place to change the owner: setup.py, read as text.
URL = re.search(
    r'^URL = "([^"]+)"', (ROOT / "setup.py").read_text("utf-8"), re.MULTILINE
)[1]


def on_files(files, config):
    """Adds the shared files, and the notebooks' scripts as pages."""
    for pattern in _SHARED:
        for path in sorted(ROOT.glob(pattern)):
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    for script in sorted(ROOT.glob("notebooks/[0-9]_*.py")):
        name = f"notebooks/{script.stem}.md"
        page = notebook_page(script)
        files.append(File.generated(config, name, content=page))
    return files


def on_page_markdown(markdown, page, config, files):
    """Makes links of the repository links of the site."""
    name = page.file.src_uri
    generated = page.file.generated_by is not None
    folder = posixpath.dirname(name if generated else f"docs/{name}")

    def replace(match):
        link, anchor = match[1], match[2] or ""
        target = posixpath.normpath(posixpath.join(folder, link))
        if "://" in link or not (ROOT / target).exists():
            return match[0]
        inside = re.sub(r"^notebooks/(.*)\.ipynb$", r"notebooks/\1.md", target)
        inside = inside.removeprefix("docs/")
        if files.get_file_from_path(inside) is None:
            kind = "tree" if (ROOT / target).is_dir() else "blob"
            return f"]({URL}/{kind}/main/{target}{anchor})"
        inside = posixpath.relpath(inside, posixpath.dirname(name))
        return f"]({inside}{anchor})"

    return _LINK.sub(replace, markdown)


def notebook_page(script: pathlib.Path) -> str:
    """A notebook as Markdown: its text, and its code, which is not run."""
    notebook = jupytext.read(script)
    cells = []
    for cell in notebook.cells:
        text = cell.source
        if cell.cell_type == "code":
            text = f"```python\n{text}\n```"
        cells.append(text)
    heading, text = cells[0].split("\n", 1)
    source = f"[As a notebook](../notebooks/{script.stem}.ipynb)"
    return "\n\n".join([heading, source, text.strip(), *cells[1:]]) + "\n"
