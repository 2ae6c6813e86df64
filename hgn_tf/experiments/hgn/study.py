"""Studies: rows that each change a budget. What brings a law, and clean videos.

A study that was stopped goes on where it was.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from hgn_tf import data, evaluation
from hgn_tf.evaluation import SPEEDS
from hgn_tf.experiments import runs, tables
from hgn_tf.experiments.hgn import beyond, train
from hgn_tf.experiments.hgn.config import (
    ABLATION,
    ABLATION_ROWS,
    CLEAN,
    CLEAN_ROWS,
    DATASETS,
    Config,
    make_config,
    of_systems,
)
from hgn_tf.experiments.hgn.table import VARYING, by_model, far_keys
from hgn_tf.experiments.runs import Result
from hgn_tf.files import write_whole

_METRICS = evaluation.METRICS | beyond.SYMETRIC | beyond.TWO_FORM
_LAW = (
    "excess_mse_e4",
    "energy_r2",
    "energy_rank",
    *(speed.metric for name, speed in SPEEDS.items() if name != "forward"),
    *far_keys("model"),
)
_NUM_VIDEOS = 64  # whose states SyMetric is measured on
_MEAN_IMAGE = dict(zip(far_keys("model"), far_keys("mean_image")))


@dataclasses.dataclass(frozen=True)
class Study:
    """A table of rows, each a budget with some settings changed.

    Attributes:
      title: Heading of the table.
      intro: What its rows and columns are.
      settings: Row -> its budget, and what it changes there. "dataset" in it
        is the name of a dataset with {} for the system.
      rows: System -> names of its rows.
      columns: Measures of a run.
    """

    title: str
    intro: str
    settings: Mapping[str, tuple[str, dict]]
    rows: Mapping[str, Sequence[str]]
    columns: tuple[str, ...]


STUDIES = {
    "ablation": Study(
        "What brings a law",
        "The row `flat` is the budget of that name with 3,000 steps, and with "
        "softplus in its energies, as it was before. `conv` has 1,000, and its "
        "horizon is whole after 500. Each other row changes what it is named "
        "after. `neither` has no agreement and no positions, "
        "`first_anchor` rolls from frame 15 over the whole video, "
        "`first_state` has z at the first frame, `bent_positions` has a "
        "`PositionNet`, `random_start` no grey frame, and `long_videos` "
        "videos of 120 frames with 59 steps each way. Errors are mean squared "
        "errors per pixel, times 1e4; those of 60, 120 and 240 frames are of "
        "the split test_long, all frames counted. A memory of the frames has "
        "a low excess and fails at all other columns.",
        ABLATION,
        ABLATION_ROWS,
        _LAW,
    ),
    "clean": Study(
        "Clean videos, of which five frames are seen",
        "The protocol of HGN++ (Higgins et al. 2021): no noise, a state from "
        "five frames. `law` is the budget `clean`, whose rollouts grow from 10 "
        "steps each way to 59, with energies of sines and isometry. "
        "The pendulum has a low rank of 0.3 too. `published` has the "
        "objective and the parts of HGN++: no agreement, no positions, no "
        "isometry, no low rank, softplus, no f_psi, K and V learned, Adam, 30 "
        "steps each way (61 frames). It keeps what two cores need: 5,000 "
        "steps of 32 videos for 500,000 of 128, 8 frames decoded, a horizon "
        "that grows, a grey start, |x|^2 / 2 in the energies, MLPs of two "
        "layers of 128 for five of 250, a rate of 2e-3 that falls, GECO with "
        "a multiplier of at most 1. `joint` is `law` with one network for "
        "H(q, p), by the implicit midpoint. Errors are mean squared errors "
        "per pixel, times 1e4, those of 60, 120 and 240 frames of the split "
        "test_long, all frames counted. The valid time is a median: the first "
        "frame after the thirtieth whose error passes 0.025 of the picture's "
        "square. SyMetric is 1 if R^2 of the true state is above 0.9 and Sym "
        "below 0.05. The two-form, pulled back, is 0 for a symplectic map of "
        "the true states and 1 where there is none. It is to be read with one "
        "degree of freedom alone.",
        CLEAN,
        CLEAN_ROWS,
        (*_LAW, *beyond.SYMETRIC, "two_form_defect"),
    ),
}


def make_study(
    name: str,
    systems: Sequence[str] | None,
    num_seeds: int,
    rows: Sequence[str] | None,
    results_dir: pathlib.Path,
    data_dir: str | None = None,
    runs_dir: pathlib.Path = pathlib.Path("runs"),
    verbose: int | str = 0,
    progress: Callable[[str], None] = lambda line: None,
) -> str:
    """Runs what is not done yet of a study; writes its Markdown and JSON.

    Args:
      name: A key of STUDIES.
      systems: Systems of the study; None for all.
      num_seeds: Number of seeds, 0 .. num_seeds - 1.
      rows: Rows of the study; None for all.
      results_dir: Folder of <name>.md and <name>/.
      data_dir: TFDS's folder; None for its default.
      runs_dir: Folder of the runs' folders, in <name>/.
      verbose: Verbosity of `model.fit`.
      progress: Called with a line after each run.
    Returns: the table as Markdown.
    Raises: ValueError: for an unknown study, system or row, a row that none
      of the systems has, no seed, or results of one row with several
      settings.
    """

    def make(run, folder):
        train.train(
            run.config, folder, data_dir, verbose=verbose, progress=progress
        )
        result = train.evaluate(
            folder, data_dir, experiment=name, model_name=run.model
        )
        if "symetric" not in STUDIES[name].columns:
            return result
        found = _symetric(run.config, folder, data_dir)
        return dataclasses.replace(result, metrics=result.metrics | found)

    for result in runs.run_table(
        list_study(name, systems, num_seeds, rows),
        make,
        results_dir / name,
        runs_dir / name,
        VARYING,
        _by_dataset(name),
    ):
        progress(
            f"{result.dataset} {result.model} seed {result.seed}: R^2 "
            f"{tables.spell(result.metrics['energy_r2'], '.3f')}, backward "
            f"{tables.spell(result.metrics['backward_mse_e4'], '.1f')}e-4"
        )
    text = format_study(name, read_study(name, results_dir))
    write_whole(results_dir / f"{name}.md", text.encode("utf-8"))
    return text


def _symetric(config, folder, data_dir):
    _, model = train.load(folder)
    builder = data.get_builder(config.dataset, data_dir)
    test = data.load_split(builder, "test", _NUM_VIDEOS)
    return beyond.measure_symetric(model, test, config.seed)


def list_study(
    name: str,
    systems: Sequence[str] | None,
    num_seeds: int,
    rows: Sequence[str] | None,
) -> list[runs.Run]:
    """The runs of a study; arguments and errors as in `make_study`."""
    study = _find(name)
    runs.check_names("systems", systems or (), study.rows)
    runs.check_names("models", rows or (), study.settings)
    return runs.list_runs(
        {system: study.rows[system] for system in systems or study.rows},
        num_seeds,
        lambda system, row, seed: _config(*study.settings[row], system, seed),
        rows,
    )


def _find(name) -> Study:
    runs.check_names("study", [name], STUDIES)
    return STUDIES[name]


def _config(budget, own, system, seed) -> Config:
    own = {"dataset": DATASETS.get(budget), **own}
    dataset = own.pop("dataset").format(system)
    return make_config(dataset, budget, **own, seed=seed)


def read_study(name: str, results_dir: pathlib.Path) -> list[Result]:
    """The results of a study that are there; `name` as in `make_study`."""
    return runs.read_results(
        results_dir / name, Config, VARYING, _by_dataset(name)
    )


def _by_dataset(name):
    return of_systems(*(budget for budget, _ in _find(name).settings.values()))


def format_study(name: str, results: Sequence[Result]) -> str:
    """Markdown of the results that are there.

    Args:
      name: A key of STUDIES.
      results: Results of runs of the study.
    """
    study = _find(name)
    command = "" if name == "ablation" else f" {name}"
    parts = [
        f"# {study.title}",
        f"Made by `hgn-tf table hgn --study{command}`. {study.intro}",
        "Each number is a mean over "
        f"{tables.describe_seeds(results)}. "
        '"+-" is the standard deviation over seeds; a number without it is of '
        "one seed.",
    ]
    groups = by_model(results)
    titles = ["row", *tables.titles(study.columns, _METRICS), "CPU-s"]
    for system, names in study.rows.items():
        rows = {m: groups[system, m] for m in names if (system, m) in groups}
        if rows:
            lines = [
                _line(row, seeds, study.columns) for row, seeds in rows.items()
            ]
            lines.append(_mean_image(next(iter(rows.values())), study.columns))
            parts += [f"## {system}", tables.markdown_table(titles, lines)]
    return "\n\n".join(parts) + "\n"


def _line(row, results, columns):
    cost = np.mean([result.cpu_seconds for result in results])
    return [
        row + tables.mark_collapsed(results),
        *tables.cells(results, columns, _METRICS),
        f"{cost:.0f}",
    ]


def _mean_image(results, columns):
    """The mean image's errors in the columns where it has some."""
    cells = [
        tables.cell(results[:1], _MEAN_IMAGE[name], _METRICS[_MEAN_IMAGE[name]])
        if name in _MEAN_IMAGE
        else ""
        for name in columns
    ]
    return ["mean image", *cells, ""]
