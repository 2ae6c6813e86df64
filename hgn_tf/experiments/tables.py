"""Tables of results as Markdown, and their cells."""

import collections
from collections.abc import Mapping, Sequence

import numpy as np

from hgn_tf.evaluation import Metric
from hgn_tf.experiments.runs import Result


def markdown_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with a row of titles."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cell(
    results: Sequence[Result], name: str, metric: Metric, spread: bool = True
) -> str:
    """A measure of the seeds of a model: mean +- standard deviation.

    "+-" is the standard deviation over seeds, with n - 1. One seed has none.
    Numbers that the data alone decide have none either. Runs without a value
    are counted, as "0.123, 2 without".

    Args:
      results: Results of the seeds.
      name: Key of the measure.
      metric: Entry of the catalogue, with the format.
      spread: Whether the results differ in the seed alone.
    Returns: The text; empty if no run has a value.
    """
    values = [result.metrics.get(name) for result in results]
    found = [value for value in values if value is not None]
    if not found:
        return ""
    if metric.yardstick:
        return format(found[0], metric.form)
    text = format(np.mean(found), metric.form)
    if spread and len(found) > 1:
        text += f" +- {_one_digit(np.std(found, ddof=1), metric.form)}"
    missing = len(values) - len(found)
    return f"{text}, {missing} without" if missing else text


def cells(
    results: Sequence[Result],
    names: Sequence[str],
    metrics: Mapping[str, Metric],
    spread: bool = True,
) -> list[str]:
    """A `cell` for each of some measures of a catalogue."""
    return [cell(results, name, metrics[name], spread) for name in names]


def titles(names: Sequence[str], metrics: Mapping[str, Metric]) -> list[str]:
    """The titles of some measures of a catalogue."""
    return [metrics[name].title for name in names]


def spell(number: float | None, form: str) -> str:
    """A measure in words: one that was not finite has no number."""
    return "none" if number is None else format(number, form)


def _one_digit(x, form):
    """One significant digit, in the notation of the mean beside it."""
    text = f"{x:.0e}"
    if form.endswith("e"):
        return text
    return np.format_float_positional(float(text), trim="-")


def mark_collapsed(results: Sequence[Result]) -> str:
    """What is put behind a model's name if it draws a still image."""
    collapsed = sum(bool(each.metrics.get("collapsed")) for each in results)
    if collapsed in (0, len(results)):
        return ", collapsed" if collapsed else ""
    return f", {collapsed} of {len(results)} collapsed"


def describe_seeds(results: Sequence[Result]) -> str:
    """How many seeds the rows have, in words: "3 seeds", or "1 to 3 seeds"."""
    rows = collections.Counter(
        (result.dataset, result.model) for result in results
    )
    low = min(rows.values(), default=0)
    high = max(rows.values(), default=0)
    count = str(high) if low == high else f"{low} to {high}"
    return f"{count} seed{'s' if high > 1 else ''}"
