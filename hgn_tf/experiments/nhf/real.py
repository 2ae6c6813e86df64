"""NHF, usual flows and Gaussians on real rows of 10 to 64 numbers.

Rows, models and table whole: what scikit-learn ships, by five folds.
"""

import dataclasses
import functools
import json
import math
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from hgn_tf import training
from hgn_tf.evaluation import Metric
from hgn_tf.experiments import runs, tables
from hgn_tf.experiments.nhf.config import VARIANTS, Variant
from hgn_tf.experiments.runs import Result
from hgn_tf.files import write_whole
from hgn_tf.models.nhf import NHF, NormalizingFlow
from hgn_tf.models.nhf.forms import arguments_from
from hgn_tf.viz import figures as plots

DATASETS = ("wine", "diabetes", "breast_cancer", "digits")
NUM_FOLDS = 5
_PIXELS = "digits"

MODELS = {
    "gaussian": Variant("mixture", {"components": [1]}),
    "mixture": Variant("mixture", {"components": [1, 2, 3, 5, 10]}),
    # As on the densities of the plane, but that the prior is N(0, 1): of
    # standardised columns, most have one mode.
    **{
        name: Variant(
            row.kind,
            {k: v for k, v in row.settings.items() if k != "prior"},
        )
        for name, row in VARIANTS.items()
    },
}
# Validation chooses between two learning rates: at that of the plane the usual
# flows have learned a few rows by heart after 50 steps.
RATES = {
    "nhf_paper": (3e-3, 1e-3),
    "nhf_best": (5e-3, 1e-3),
    "nhf_fixed_kinetic": (3e-3, 1e-3),
    "realnvp": (1e-3, 1e-4),
    "maf": (1e-3, 1e-4),
    "spline": (1e-3, 1e-4),
}
# Least variance of a Gaussian along any direction, in standardised units.
_FLOORS = (1e-3, 1e-2, 1e-1)
_DRAWN = 40  # digits of a picture

METRICS = {
    "log_likelihood": Metric("ln p of a row", "nats", ".2f"),
    "bits_per_dimension": Metric("bits per pixel", form=".3f"),
    "elbo": Metric("ELBO of a row", "nats", ".2f"),
    "effective_samples": Metric("effective samples", form=".0f"),
    "parameters": Metric("parameters", form=".0f"),
    "learning_rate": Metric("learning rate", form=".1e"),
    "steps": Metric("steps to the best", form=".0f"),
    "cpu_seconds": Metric("CPU s of training", form=".1f"),
    "nonfinite": Metric("ln p not finite", form=".0f"),
    "dropped_steps": Metric("dropped steps", form=".0f"),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """A fold of a data set, and the model that learns it.

    Attributes:
      dataset: One of `DATASETS`.
      model: A key of `MODELS`.
      kind: "nhf", "mixture", or a name in `baselines.FLOWS`.
      settings: Arguments of the model.
      seed: Number of the fold that is tested, from 0.
      num_steps: Largest number of optimiser steps.
      batch_size: Rows of a step, drawn with replacement.
      learning_rates: Adam's, constant, of which validation chooses one.
      check_every: Steps between two looks at the validation rows.
      patience: Looks without a better one after which training ends.
      num_samples: Momenta per test row, of an NHF.
      num_check_samples: Momenta per validation row, of an NHF.
    """

    dataset: str
    model: str
    kind: str
    settings: dict
    learning_rates: list
    seed: int = 0
    num_steps: int = 2000
    batch_size: int = 64
    check_every: int = 50
    patience: int = 6
    num_samples: int = 1000
    num_check_samples: int = 50


class Rows(NamedTuple):
    """The rows of a fold, [rows, dim], and what a number of a column is.

    Attributes:
      train: Rows that are learned.
      validation: Rows that decide when to stop.
      test: Rows that are measured.
      gap: Smallest difference of two values of each column [dim], to which
        the values are rounded.
      mean: Mean of the columns of `train` [dim], noise of the gap included.
      deviation: Their standard deviation [dim], likewise.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    gap: np.ndarray
    mean: np.ndarray
    deviation: np.ndarray

    def spread(self, rows: np.ndarray, seed: int | Sequence[int]) -> np.ndarray:
        """Rows as float32 points, each value uniform within its rounding.

        A rounded value has no density: a model could make it infinite. With
        noise as wide as the gap, the density of points bounds the probability
        of the values from below.

        Args:
          rows: Values [n, dim].
          seed: Seed of the noise, as `numpy.random.default_rng` takes it.
        Returns: Standardised points [n, dim].
        Source: Theis et al. 2016, A note on the evaluation of generative
          models, section 3.1.
        """
        noise = np.random.default_rng(seed).uniform(size=rows.shape)
        points = (rows + self.gap * noise - self.mean) / self.deviation
        return points.astype(np.float32)

    def values(self, points: np.ndarray) -> np.ndarray:
        """Standardised points back in the units of the data."""
        return points * self.deviation + self.mean

    @property
    def log_scale(self) -> float:
        """What is taken from ln p of a point for ln p in the data's units."""
        return float(np.log(self.deviation).sum())


@functools.cache
def load(name: str) -> np.ndarray:
    """The rows of a data set that scikit-learn ships, float64 [rows, dim].

    Raises: ValueError: if there is no such data set. ImportError: without
      scikit-learn.
    """
    runs.check_names("datasets", [name], DATASETS)
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError(
            "Real rows need scikit-learn: pip install 'hgn-tf[real]'."
        ) from error
    options = {"scaled": False} if name == "diabetes" else {}
    return getattr(datasets, f"load_{name}")(**options).data


def split(values: np.ndarray, fold: int) -> Rows:
    """A fifth to test, a fifth of the others to validate, the rest to train.

    Args:
      values: Rows [n, dim].
      fold: Which fifth, 0 to 4. The fifths share no row.
    """
    values = values[np.random.default_rng(0).permutation(len(values))]
    place = np.arange(len(values)) % NUM_FOLDS
    rest = values[place != fold]
    validates = np.arange(len(rest)) % NUM_FOLDS == 0
    train = rest[~validates]
    # Of rounding errors of the values themselves no gap is made.
    gaps = [np.diff(np.unique(column.round(9))) for column in values.T]
    gap = np.array([gap.min() if gap.size else 1.0 for gap in gaps])
    return Rows(
        train,
        rest[validates],
        values[place == fold],
        gap,
        train.mean(axis=0) + gap / 2,
        np.sqrt(train.var(axis=0) + gap**2 / 12),
    )


def make_config(dataset: str, model: str, fold: int = 0, **changes) -> Config:
    """The Config of a row of the table, with some settings changed.

    Raises: ValueError: if the data set, model, fold or setting is unknown.
    """
    runs.check_names("datasets", [dataset], DATASETS)
    runs.check_names("models", [model], MODELS)
    runs.check_settings(changes, Config)
    if not 0 <= fold < NUM_FOLDS:
        raise ValueError(
            f"A fold must be 0 to {NUM_FOLDS - 1}. Received: {fold}."
        )
    row = MODELS[model]
    settings = row.settings_for(dataset) | changes.pop("settings", {})
    own = {
        "kind": row.kind,
        "settings": json.loads(json.dumps(settings)),
        "learning_rates": list(RATES.get(model, ())),
    }
    return Config(dataset, model, seed=fold, **{**own, **changes})


class _Validation(keras.callbacks.Callback):
    """Puts -ln p of the validation rows into the logs, as `val_loss`.

    Of an NHF by importance sampling: its loss is another bound.
    """

    def __init__(self, points, num_samples):
        super().__init__()
        self._points = points
        self._num_samples = num_samples

    def on_epoch_end(self, epoch, logs):
        log_prob, _ = _measure(self.model, self._points, self._num_samples)
        value = -np.mean(log_prob)
        logs["val_loss"] = float(value) if np.isfinite(value) else math.inf


class Learner:
    """A model that learns one fold after another from the same first weights.

    XLA compiles it once.

    Args:
      config: Settings of the first fold.
      dim: Number of columns.
      jit_compile: Whether XLA does.
    """

    def __init__(self, config: Config, dim: int, jit_compile: bool = True):
        keras.utils.set_random_seed(0)
        if config.kind == "nhf":
            model = NHF(**arguments_from(config.settings))
        else:
            model = NormalizingFlow(config.kind, **config.settings)
        model.compile(keras.optimizers.Adam(), jit_compile=jit_compile)
        model.inner_steps = config.check_every
        model.build((None, dim))
        model.optimizer.build(model.trainable_variables)
        self.model = model
        self._config = config
        self._first = [x.numpy() for x in self._variables()]

    def fits(self, config: Config) -> bool:
        """Whether a config is another fold of the same."""
        return dataclasses.replace(config, seed=self._config.seed) == (
            self._config
        )

    def learn(self, config: Config, rows: Rows) -> dict[str, float]:
        """Trains anew, and keeps the weights of the best validation.

        Args:
          config: Settings of the fold.
          rows: Its rows.
        Returns: learning_rate: The better one. steps: Its steps to the best
          weights. dropped_steps: Of both. cpu_seconds: Of both, the
          compilation left out.
        """
        points = rows.spread(rows.validation, [2**31, config.seed, 0])
        validation = _Validation(points, config.num_check_samples)
        clock, trials = _Clock(), []
        for rate in config.learning_rates:
            for variable, value in zip(self._variables(), self._first):
                variable.assign(value)
            self.model.optimizer.learning_rate.assign(rate)
            stop = keras.callbacks.EarlyStopping(
                patience=config.patience, restore_best_weights=True
            )
            history = self.model.fit(
                batches(config, rows),
                epochs=config.num_steps // config.check_every,
                steps_per_epoch=1,
                callbacks=[validation, stop, clock],
                verbose=0,
            ).history
            found = {
                "learning_rate": rate,
                "steps": config.check_every * (stop.best_epoch + 1),
                "validation": stop.best,
                "dropped_steps": history["dropped_steps"][-1],
            }
            trials.append((found, self.model.get_weights()))
        best, weights = min(trials, key=lambda run: run[0]["validation"])
        self.model.set_weights(weights)
        dropped = sum(found["dropped_steps"] for found, _ in trials)
        best["validation"] = -best["validation"] - rows.log_scale
        return best | {
            "dropped_steps": int(dropped),
            "cpu_seconds": clock.seconds(),
        }

    def _variables(self):
        return [*self.model.variables, *self.model.optimizer.variables]


class _Clock(keras.callbacks.Callback):
    """CPU-seconds of training; a first look that compiles counts as others."""

    def __init__(self):
        super().__init__()
        self._runs = []

    def on_train_begin(self, logs=None):
        self._runs.append([time.process_time()])

    def on_epoch_end(self, epoch, logs=None):
        self._runs[-1].append(time.process_time())

    def seconds(self):
        each = [np.diff(times) for times in self._runs]
        usual = np.median(np.concatenate(each))
        for seconds in each:
            seconds[0] = min(seconds[0], usual)
        return float(sum(map(np.sum, each)))


def batches(config: Config, rows: Rows) -> tf.data.Dataset:
    """Points of `check_every` steps at a time: rows drawn, fresh noise.

    They depend on the fold and their number alone.
    """
    size = config.check_every * config.batch_size

    def draw(number):
        seed = [config.seed, int(number)]
        chosen = np.random.default_rng([*seed, 1]).integers(
            len(rows.train), size=size
        )
        return rows.spread(rows.train[chosen], [*seed, 2])

    def batch(number):
        points = tf.numpy_function(draw, [number], tf.float32, stateful=False)
        return tf.ensure_shape(points, [size, rows.train.shape[1]])

    return tf.data.Dataset.counter().map(batch).prefetch(1)


class Mixture:
    """Gaussians of full covariance; validation chooses number and floor.

    Args:
      config: Settings of the fold, with the numbers to choose from.
      dim: Number of columns.
    """

    def __init__(self, config: Config, dim: int):
        self.model: Any = None

    def fits(self, config: Config) -> bool:
        """As `Learner.fits`: nothing is compiled here."""
        return False

    def learn(self, config: Config, rows: Rows) -> dict[str, float]:
        """As `Learner.learn`. The points have one draw of their noise."""
        from sklearn.mixture import GaussianMixture

        start = time.process_time()
        train, validation = (
            rows.spread(part, [2**31, config.seed, number]).astype(np.float64)
            for part, number in ((rows.train, 2), (rows.validation, 0))
        )
        found: list[tuple[float, int, Any]] = []
        for count in config.settings["components"]:
            for floor in _FLOORS:
                # The floor is added to the variance of every column.
                model = GaussianMixture(
                    count, reg_covar=floor, random_state=config.seed
                ).fit(train)
                found.append((model.score(validation), len(found), model))
        best, _, self.model = max(found)
        return {
            "validation": best - rows.log_scale,
            "cpu_seconds": time.process_time() - start,
        }


def _measure(model, points, num_samples):
    """The ln p of points in nats, and what else an NHF knows."""
    if hasattr(model, "score_samples"):
        return model.score_samples(points), {}
    if not hasattr(model, "importance"):
        return model.log_prob(points).numpy(), {}
    found = model.importance(points, num_samples)
    return found.log_prob.numpy(), {
        "elbo": found.elbo.numpy(),
        "effective_samples": found.effective_samples.numpy(),
    }


def score(
    model: Any, rows: Rows, fold: int, num_samples: int
) -> dict[str, float]:
    """The measures of a trained model on the test rows.

      log_likelihood: Mean of ln p in nats, in the units of the data: p is the
        density of the value plus the noise of its rounding. Of an NHF by
        importance sampling, a bound from below.
      bits_per_dimension: -log2 of the probability per column, where the gap
        of every column is 1.
      elbo, effective_samples: Of an NHF; means.
      nonfinite: Test rows whose ln p is not finite.
      parameters: Numbers that are fitted.

    Args:
      model: NHF, NormalizingFlow or scikit-learn's mixture.
      rows: Rows of the fold.
      fold: Its number, which seeds the noise.
      num_samples: Momenta per row, of an NHF.
    """
    points = rows.spread(rows.test, [2**31, fold, 1])
    log_prob, more = _measure(model, points, num_samples)
    found = {
        "log_likelihood": float(log_prob.mean()) - rows.log_scale,
        "nonfinite": int(np.sum(~np.isfinite(log_prob))),
        "parameters": _parameters(model),
    }
    if "elbo" in more:
        found |= {
            "elbo": float(more["elbo"].mean()) - rows.log_scale,
            "effective_samples": float(more["effective_samples"].mean()),
        }
    if (rows.gap == 1).all():
        bits = -found["log_likelihood"] / math.log(2)
        found["bits_per_dimension"] = bits / points.shape[1]
    return found


def _parameters(model):
    if hasattr(model, "trainable_variables"):
        return sum(
            variable.value.shape.num_elements()
            for variable in model.trainable_variables
        )
    count, dim = model.means_.shape
    return count * (dim + dim * (dim + 1) // 2) + count - 1


def learn_all(
    configs: Sequence[Config],
    results_dir: pathlib.Path,
    progress: Callable[[str], None] = print,
) -> None:
    """Learns and measures folds of models, and writes the JSON of each.

    Args:
      configs: Settings. Those of one model stand together: they share what is
        compiled.
      results_dir: Folder of the JSON files. Of digits a picture of samples
        goes there too, for fold 0.
      progress: Callable that gets a line after each fold.
    """
    learner: Any = None
    for config in configs:
        values = load(config.dataset)
        if learner is None or not learner.fits(config):
            kind = Mixture if config.kind == "mixture" else Learner
            learner = kind(config, values.shape[1])
        start = time.monotonic()
        rows = split(values, config.seed)
        trained = learner.learn(config, rows)
        wall = time.monotonic() - start
        result = Result(
            experiment="nhf_real",
            model=config.model,
            dataset=config.dataset,
            seed=config.seed,
            budget="real",
            metrics=trained
            | score(learner.model, rows, config.seed, config.num_samples),
            config=runs.as_json(config),
            commit=runs.commit(),
            wall_seconds=wall,
            cpu_seconds=trained["cpu_seconds"],
            peak_memory_mb=training.peak_memory_mb(),
        )
        name = runs.Run(config.dataset, config.model, config).name
        results_dir.mkdir(parents=True, exist_ok=True)
        if (config.dataset, config.seed) == (_PIXELS, 0):
            draw_digits(
                learner.model, rows, results_dir / f"{name}-samples.png"
            )
        result.write(results_dir / f"{name}.json")
        progress(
            f"{config.dataset} {config.model} fold {config.seed}: "
            f"{result.metrics['log_likelihood']:.3f} nats a row, "
            f"{result.cpu_seconds:.1f} CPU s"
        )


def draw_digits(model: Any, rows: Rows, path: pathlib.Path) -> None:
    """A picture: test digits above, digits of the model below."""
    if hasattr(model, "score_samples"):
        points, _ = model.sample(_DRAWN)
    else:
        points = model.sample(_DRAWN, seed=0).numpy()
    drawn = rows.values(points)
    pictures = {}
    for title, values in (("real", rows.test[:_DRAWN]), ("model", drawn)):
        frames = np.clip(np.floor(values) / 16, 0, 1).reshape(-1, 8, 8, 1)
        half = len(frames) // 2
        pictures[f"{title} "] = frames[:half]
        pictures[title] = frames[half:]
    figure = plots.film_strip(pictures)
    figure.axes[-1].set(xticks=[], xlabel="")  # No time runs along them.
    plots.write_figure(path, figure)


def make_tables(
    datasets: Sequence[str] | None = None,
    num_folds: int = NUM_FOLDS,
    models: Sequence[str] | None = None,
    results_dir: pathlib.Path = pathlib.Path("results"),
) -> str:
    """Makes the missing runs; writes nhf_real.md and nhf_real/*.json.

    A finished fold leaves its JSON and is not made again. The text shows all
    results that are there, whichever were asked for.

    Args:
      datasets: Some of `DATASETS`; None for all.
      num_folds: Number of the five folds that are tested.
      models: Keys of `MODELS`; None for all.
      results_dir: Folder of the results.
    Returns: The tables as Markdown.
    Raises: ValueError: for an unknown data set or model, or no fold.
    """
    folder = results_dir / "nhf_real"
    planned = list_runs(datasets, num_folds, models)
    runs.check_results(planned, folder)
    missing = [
        run.config
        for run in planned
        if runs.find_result(folder / f"{run.name}.json", run.config) is None
    ]
    for dataset in dict.fromkeys(config.dataset for config in missing):
        # TensorFlow keeps what XLA compiled until its process ends.
        runs.in_own_process(
            learn_all,
            sorted(
                (config for config in missing if config.dataset == dataset),
                key=lambda config: list(MODELS).index(config.model),
            ),
            folder,
        )
    text = format_tables(read_results(results_dir)) + "\n"
    write_whole(results_dir / "nhf_real.md", text.encode("utf-8"))
    return text


def list_runs(
    datasets: Sequence[str] | None = None,
    num_folds: int = NUM_FOLDS,
    models: Sequence[str] | None = None,
) -> list[runs.Run]:
    """The runs of the table; arguments and errors as in `make_tables`."""
    runs.check_names("datasets", datasets or (), DATASETS)
    runs.check_names("models", models or (), MODELS)
    chosen = [model for model in MODELS if model in (models or MODELS)]
    return runs.list_runs(
        {dataset: chosen for dataset in datasets or DATASETS},
        num_folds,
        make_config,
    )


def read_results(results_dir: pathlib.Path) -> list[Result]:
    """The results that are there, in the order of the table."""
    found = runs.read_results(results_dir / "nhf_real", Config, ("seed",))
    order = list(MODELS)
    return sorted(
        (result for result in found if result.model in order),
        key=lambda result: (
            DATASETS.index(result.dataset),
            order.index(result.model),
            result.seed,
        ),
    )


def format_tables(results: Sequence[Result]) -> str:
    """Markdown: log-likelihoods, what they are beside a Gaussian's, costs.

    Args:
      results: Results of runs, in the order of the table.
    """
    config = results[0].config
    pixels = [result for result in results if result.dataset == _PIXELS]
    parts = [
        "# Neural Hamiltonian Flows on real rows",
        "Made by `hgn-tf table nhf_real`: the data sets that scikit-learn "
        "ships. Each number is a mean over folds, whose number is below. "
        '"+-" is the standard deviation over folds; a number without it is of '
        "one fold. The JSON of each fold is in `nhf_real/`.",
        _describe(results),
        "A fold has a fifth of the rows to test. Of the others a fifth "
        "validates and the rest is learned, standardised. All but the two "
        f"rows of Gaussians have the same budget: {config['num_steps']:,} "
        f"steps of Adam at most, of {config['batch_size']} rows. After "
        f"{config['patience'] * config['check_every']} steps without a better "
        "value on the validation rows training ends, and the best weights "
        "are kept. The validation rows also choose between two learning "
        "rates. Of the Gaussians they choose the number, and what is added to "
        "the variances.",
        "All values are rounded. Each gets uniform noise as wide as the "
        "smallest gap between two values of its column, fresh in every step. "
        "So ln p is a bound of the probability of the rounded values.",
        "## Log-likelihood of a test row, in nats",
        "In the units of the data; more is better. The density of an NHF is "
        f"taken by importance sampling, {config['num_samples']:,} momenta per "
        "row, which is a bound from below.",
        _matrix(results, "log_likelihood"),
        "## What it gains over the Gaussian, in nats",
        "The same, less that of the Gaussian on the same fold. Folds differ "
        "less in it, since a hard row is hard for all.",
        _matrix(_gains(results), "log_likelihood"),
    ]
    if pixels:
        parts += [
            "## Bits per pixel of the digits",
            "Fewer is better.",
            _matrix(pixels, "bits_per_dimension"),
        ]
    parts += ["## Training", _costs(results)]
    return "\n\n".join(parts)


def _describe(results):
    rows = []
    for dataset in dict.fromkeys(result.dataset for result in results):
        count, dim = load(dataset).shape
        folds = {x.seed for x in results if x.dataset == dataset}
        tested = f"{len(folds)} of {NUM_FOLDS}"
        rows.append([dataset, f"{count:,}", str(dim), tested])
    return tables.markdown_table(["data", "rows", "columns", "folds"], rows)


def _gains(results):
    """Results less the Gaussian's of the same data set and fold."""
    least = {
        (result.dataset, result.seed): result.metrics["log_likelihood"]
        for result in results
        if result.model == "gaussian"
    }
    gains = []
    for result in results:
        base = least.get((result.dataset, result.seed))
        if base is not None and result.model != "gaussian":
            value = result.metrics["log_likelihood"]
            value = None if value is None else value - base
            gains.append(
                dataclasses.replace(result, metrics={"log_likelihood": value})
            )
    return gains


def _matrix(results, name):
    """One row per model, one column per data set."""
    datasets = list(dict.fromkeys(result.dataset for result in results))
    rows = [
        [
            model,
            *(
                tables.cell(_of(results, model, dataset), name, METRICS[name])
                for dataset in datasets
            ),
        ]
        for model in dict.fromkeys(result.model for result in results)
    ]
    return tables.markdown_table(["model", *datasets], rows)


_COSTS = (
    "parameters",
    "steps",
    "cpu_seconds",
    "effective_samples",
    "dropped_steps",
    "nonfinite",
)


def _costs(results):
    rows = []
    for dataset in dict.fromkeys(result.dataset for result in results):
        for model in dict.fromkeys(result.model for result in results):
            folds = _of(results, model, dataset)
            if folds:
                cells = tables.cells(folds, _COSTS, METRICS, spread=False)
                rows.append([dataset, model, *cells])
    titles = ["data", "model", *tables.titles(_COSTS, METRICS)]
    return tables.markdown_table(titles, rows)


def _of(results, model, dataset):
    return [
        result
        for result in results
        if (result.model, result.dataset) == (model, dataset)
    ]
