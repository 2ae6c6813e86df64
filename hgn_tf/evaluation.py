"""What a trained HGN is worth: measures beside baselines, floor and truth."""

from typing import NamedTuple

import numpy as np

from hgn_tf import data, metrics
from hgn_tf.models.video import VideoModel
from hgn_tf.phase import PhaseState
from hgn_tf.viz.gif import to_uint8


class Speed(NamedTuple):
    """A speed and direction that rollouts are scored at.

    Attributes:
      factor: dt of a rollout in units of the model's.
      title: Name in figures and pages.
      metric: Key of its error in METRICS.
    """

    factor: float
    title: str
    metric: str


# By the name of their videos: arrays truth_<name> and model_<name>.
SPEEDS = {
    "forward": Speed(1.0, "forward", "test_mse_e4"),
    "backward": Speed(-1.0, "backward", "backward_mse_e4"),
    "double": Speed(2.0, "double speed", "double_speed_mse_e4"),
    "half": Speed(0.5, "half speed", "half_speed_mse_e4"),
}

# What a model is read against.
YARDSTICKS = {
    "mean_image": "mean image",
    "frozen_frame": "frozen first frame",
    "noise_floor": "noise floor",
}
# Errors of test_long are means over so many first frames.
LONG_FRAMES = (60, 120, 240)


class Metric(NamedTuple):
    """Name and format of a number, wherever it is written.

    Attributes:
      title: Name of a line or column.
      note: Value or meaning to compare it with.
      form: Format of its value in a table.
      yardstick: Whether the data alone decide it, not the model. Then it is
        the same for every seed.
      brief: Whether console and page show it among the main numbers.
      alone: Whether they do where no truth is known to compare with.
    """

    title: str
    note: str = ""
    form: str = ".2f"
    yardstick: bool = False
    brief: bool = True
    alone: bool = False

    def is_shown(self, scores: dict) -> bool:
        """Whether it is among the main numbers of an evaluation."""
        known = "noise_floor_mse_e4" in scores
        return self.brief or (self.alone and not known)


def error_key(predictor: str, part: str = "test") -> str:
    """The key in METRICS of a mean squared error.

    Args:
      predictor: "model" or a key of YARDSTICKS.
      part: "test", "forecast" or "long".
    """
    if predictor == "model":
        return f"{part}_mse_e4"
    return (
        f"{predictor}_mse_e4"
        if part == "test"
        else (f"{part}_{predictor}_mse_e4")
    )


def _yardsticks(part, *notes, **fields):
    """The errors of the yardsticks on a part, by key."""
    found = dict(zip(YARDSTICKS, notes))
    return {
        error_key(name, part): Metric(
            title, found.get(name, ""), yardstick=True, **fields
        )
        for name, title in YARDSTICKS.items()
    }


def _long_errors():
    """Errors over the first frames of test_long, by key."""
    return {
        f"{error_key(name, 'long')}_at_{frames}": Metric(
            f"{title}, {frames} frames" if title else f"{frames} frames",
            form=".1f",
            yardstick=name != "model",
            brief=False,
        )
        for name, title in {"model": "", **YARDSTICKS}.items()
        for frames in LONG_FRAMES
    }


# What `evaluate` returns, in the order in which it is printed. A new measure
# is a line here and a number there. Errors are mean squared errors per pixel
# of frames in [0, 1], times 1e4.
METRICS = {
    "test_mse_e4": Metric("test MSE x 1e4", "mean over frames"),
    **_yardsticks(
        "test",
        "a model that learned nothing",
        "no motion",
        "the true state's best guess",
    ),
    "excess_mse_e4": Metric("excess over the noise floor"),
    "train_mse_e4": Metric(
        "train MSE x 1e4", "over all frames of training videos"
    ),
    "test_fvu": Metric(
        "test FVU", "mean image 1, perfect 0 (clean frames)", ".3f"
    ),
    "noise_floor_fvu": Metric(
        "noise floor FVU", form=".3f", yardstick=True, brief=False
    ),
    "forecast_mse_e4": Metric(
        "forecast MSE x 1e4", "after the frames seen", brief=False, alone=True
    ),
    **_yardsticks("forecast", brief=False, alone=True),
    "energy_r2": Metric("R^2 with the true energy", "perfect 1", ".3f"),
    "energy_rank": Metric(
        "rank correlation of energies",
        "perfect 1, sign left out",
        ".3f",
    ),
    "energy_drift": Metric(
        "drift of the learned energy", "spreads of the energy", ".3f"
    ),
    "energy_variance": Metric(
        "variance of the learned energy in time", form=".1e", brief=False
    ),
    "energy_variance_share": Metric(
        "energy variance, along / across", form=".1e", brief=False
    ),
    "reversibility_error": Metric(
        "reversibility error", "relative to |s|", ".1e"
    ),
    "gradient_norm": Metric(
        "norm of grad H per frame", form=".3f", brief=False
    ),
    "gradient_norm_share": Metric(
        "grad H per frame / spread of states", form=".3f", brief=False
    ),
    "drawn_change": Metric(
        "change of picture per frame / spread", form=".1e", brief=False
    ),
    "collapsed": Metric(
        "collapsed to a still image", "1 if so", ".0f", brief=False, alone=True
    ),
    "backward_mse_e4": Metric("backward MSE x 1e4", "against the true motion"),
    "recorded_backward_mse_e4": Metric(
        "backward MSE x 1e4, recorded", "from the last frames to the first"
    ),
    "double_speed_mse_e4": Metric("double speed MSE x 1e4", "likewise"),
    "half_speed_mse_e4": Metric("half speed MSE x 1e4", "likewise"),
    "long_mse_e4": Metric("test_long MSE x 1e4", "240 frames"),
    **_yardsticks("long"),
    **_long_errors(),
    "valid_prediction_time": Metric(
        "valid prediction time", "frames, median", ".0f"
    ),
    **{
        f"valid_prediction_time_{name}": Metric(
            title, form=".0f", yardstick=True
        )
        for name, title in YARDSTICKS.items()
    },
}

# A forecast is scored from this frame on, or from the first that is not seen.
_FORECAST_START = 5
_BATCH = 50
_LONG_BATCH = 10
_NUM_SHOWN = 4
_NUM_OTHER_SPEED = 200
_NUM_MOVING = 100
_FLOOR_SAMPLES = 16


def evaluate(
    model: VideoModel,
    builder: data.Builder,
    num_examples: int | None = None,
    seed: int = 0,
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Scores a trained model on the splits test, train and test_long.

    States are inferred from the first `model.num_inference_frames` frames, by
    the posterior's mean, and rolled out over all frames. Errors are squared
    errors per pixel on recorded frames in [0, 1], times 1e4 where the name
    says e4. A model that does not see all frames is also scored on those after
    the frames seen, and after the fifth, as forecast_*. There the frozen frame
    is the last frame before them.

    The noise floor is the error of the expected frame given the true state, on
    the same frames. The excess is what lies above it. A model that saw those
    frames fits some of their noise, about 2 / frames of the floor, and its
    excess may be negative. Backward, double speed and half speed rollouts are
    scored against the true motion, without noise.

    Of videos of your own no truth is known. What needs it is left out: the
    floor, the energies' correlation, other speeds. A backward rollout then
    starts at the last frames that a state can be inferred from, and is scored
    against the recorded frames before them. Without test_long the valid time
    counts the frames of test after those seen.

    Args:
      model: HGN or PixelHNN.
      builder: Prepared builder of `tfds_physics`, of simulated videos or of
        your own.
      num_examples: Number of test examples; None for all. At most 500 training
        examples are used.
      seed: Seed of the samples from the prior.
    Returns: dict of flat metrics (means over trajectories, with standard
      errors under *_stderr), and dict of arrays for the report.
    Raises: ValueError: if model and data differ in the seconds per frame.
    """
    _check_dt(model, builder)
    image = data.mean_image(builder)
    test = data.load_split(builder, "test", num_examples)
    known = data.has_truth(builder)
    states, errors, times = _predict(model, builder, test, image, _BATCH)
    scores = _scores(errors)
    start = max(_FORECAST_START, model.num_inference_frames)
    if start < test.video.shape[1]:
        scores |= _forecast(errors, test, start)
    if "test_long" not in builder.info.splits:
        scores |= _valid_times(times)
    arrays = {f"per_frame_{name}": x.mean(axis=0) for name, x in errors.items()}
    arrays["per_frame_model_stderr"] = metrics.mean_and_stderr(errors["model"])[
        1
    ]
    train = data.load_split(builder, "train", min(500, len(test)))
    _, errors, _ = _predict(model, builder, train, image, _BATCH)
    scores["train_mse_e4"] = 1e4 * errors["model"].mean()

    path = model.rollout(states, test.video.shape[1] - 1)
    for part in (
        _energies(model, test, path),
        _reversal(model, states, path),
        _moves(model, test),
        _shown(model, test, path),
        *(
            (
                _other_speed(model, builder, test, states, name)
                for name in SPEEDS
                if name != "forward"
            )
            if known
            else [_recorded_backward(model, test)]
        ),
        _extrapolation(model, builder, image),
    ):
        scores |= part[0]
        arrays |= part[1]
    for name, prior in _priors(model).items():
        samples = model.sample(8, test.video.shape[1] - 1, seed=seed, **prior)
        arrays[name] = to_uint8(samples.video.numpy())
    arrays["dt"] = np.float64(model.dt)
    arrays["num_inference_frames"] = np.int64(model.num_inference_frames)
    return {name: float(value) for name, value in scores.items()}, arrays


def _priors(model):
    """Array of samples -> arguments of `sample` that name their prior."""
    priors: dict[str, dict[str, str]] = {}
    if model.stochastic:
        priors["samples"] = {}
    # Not every model of videos can learn one.
    if getattr(model, "prior", None) is not None:
        priors["samples_learned"] = {"prior": "learned"}
    return priors


def format_scores(scores: dict[str, float | None]) -> str:
    """The main numbers of an evaluation beside their yardsticks, as text.

    Behind a number stands its standard error over trajectories, if it is
    known, as "(s.e. 0.1)".

    Args:
      scores: Scores of `evaluate`; a score that is None is left out.
    Returns: One line per number, in the order of METRICS.
    """
    lines = []
    for name, metric in METRICS.items():
        if not metric.is_shown(scores) or scores.get(name) is None:
            continue
        stderr = scores.get(f"{name}_stderr")
        # Of one trajectory there is none.
        known = stderr is not None and not np.isnan(stderr)
        error = f"(s.e. {stderr:.3g})" if known else ""
        title = f"{'  ' * metric.yardstick}{metric.title}"
        lines.append(
            f"{title:30s}{scores[name]:10.4g}  {error:16s} {metric.note}"
        )
    return "\n".join(line.rstrip() for line in lines)


def _predict(model, builder, trajectories, image, batch):
    """First states, errors [batch, time] by predictor, valid times by it.

    The predictors are the model, the mean image, the frozen first frame and,
    where the truth is known, the noise floor: the expected frame given the
    true state.
    """
    states, errors, times = [], [], []
    known = data.has_truth(builder)
    first = min(
        30 if known else model.num_inference_frames,
        trajectories.video.shape[1] - 1,
    )
    for start in range(0, len(trajectories), batch):
        part = trajectories[start : start + batch]
        video = part.video / np.float32(255.0)
        state = model.infer(part.video)
        path = model.rollout(state, video.shape[1] - 1)
        frames = {
            "model": model.decode(path).numpy(),
            "mean_image": np.broadcast_to(
                image.astype(np.float32), video.shape
            ),
            "frozen_frame": np.broadcast_to(video[:, :1], video.shape),
        }
        if known:
            frames["noise_floor"], own_error = _expected(builder, part, video)
        errors.append(
            {
                name: metrics.pixel_mse_per_frame(video, each)
                for name, each in frames.items()
            }
        )
        if known:
            errors[-1]["noise_floor"] -= own_error
        times.append(
            {
                name: metrics.valid_prediction_time(
                    video, each, first_frame=first
                )
                for name, each in frames.items()
            }
        )
        states.append(state)
    joined = PhaseState(*(np.concatenate(part) for part in zip(*states)))
    return joined, _join(errors), _join(times)


def _join(parts):
    return {
        name: np.concatenate([part[name] for part in parts])
        for name in parts[0]
    }


def _expected(builder, part, video):
    """The expected frames, and what they are off by as means of n samples.

    That is variance / n a frame, [batch, time].
    """
    if builder.recipe.noise == 0:
        return video, np.zeros(video.shape[:2])
    mean, variance = data.expected_frames(builder, part, _FLOOR_SAMPLES)
    return mean, variance.mean(axis=(2, 3, 4)) / _FLOOR_SAMPLES


def _scores(errors):
    known = {error_key(name): error for name, error in errors.items()}
    if "noise_floor" in errors:
        known["excess_mse_e4"] = errors["model"] - errors["noise_floor"]
    scores = _means(known)
    baseline = errors["mean_image"].mean(axis=1)
    for name, key in (
        ("model", "test_fvu"),
        ("noise_floor", "noise_floor_fvu"),
    ):
        if name in errors:
            scores[key] = metrics.fvu(errors[name].mean(axis=1), baseline)
    return scores


def _forecast(errors, test, first):
    """Mean errors of the frames from `first` on."""
    video = test.video[:, first - 1 :] / np.float32(255.0)
    errors = {name: error[:, first:] for name, error in errors.items()}
    still = np.broadcast_to(video[:, :1], video[:, 1:].shape)
    errors["frozen_frame"] = metrics.pixel_mse_per_frame(video[:, 1:], still)
    return _means(
        {error_key(name, "forecast"): error for name, error in errors.items()}
    )


def _means(errors):
    """Means over trajectories and their standard errors, times 1e4.

    Args:
      errors: Key in METRICS -> errors [batch, time].
    """
    scores = {}
    for name, error in errors.items():
        mean, stderr = metrics.mean_and_stderr(error.mean(axis=1))
        scores[name] = 1e4 * mean
        scores[f"{name}_stderr"] = 1e4 * stderr
    return scores


def energy_scores(
    along: np.ndarray, truth: np.ndarray | None
) -> dict[str, float]:
    """How well a learned energy is kept, and follows the true one.

    The scores are:

    - energy_variance: mean over trajectories of the variance in time.
    - energy_variance_share: that mean over the variance of the first energies.
    - energy_drift, energy_drift_stderr: `metrics.energy_drift`.
    - energy_r2: `metrics.r_squared` of the first energies with the truth.
    - energy_rank: `metrics.rank_correlation` of the same.

    All but the first are NaN for a model with the same energy for all videos.

    Args:
      along: Learned energies, [batch, time].
      truth: True energies, [batch]; None leaves out what compares with them.
    """
    # Of equal numbers a mean in float32 may be another one, and their spread
    # then above 0.
    along = along.astype(np.float64)
    variance = metrics.energy_variance(along).mean()
    drift, stderr, share, r2, rank = [np.nan] * 5
    if along[:, 0].std() > 0:
        drift, stderr = metrics.mean_and_stderr(metrics.energy_drift(along))
        share = variance / along[:, 0].var()
        if truth is not None:
            r2 = metrics.r_squared(along[:, 0], truth)
            rank = metrics.rank_correlation(along[:, 0], truth)
    scores = {
        "energy_variance": variance,
        "energy_r2": r2,
        "energy_rank": rank,
        "energy_drift": drift,
        "energy_drift_stderr": stderr,
        "energy_variance_share": share,
    }
    if truth is None:
        del scores["energy_r2"], scores["energy_rank"]
    return scores


def _energies(model, test, path):
    along = model.energy(path).numpy()
    arrays = {
        "learned_energy_along": along[:_NUM_SHOWN],
        "energy_learned": along[:, 0],
    }
    if test.energy is not None:
        arrays["energy_true"] = test.energy
    return energy_scores(along, test.energy), arrays


def _reversal(model, states, path):
    """Back from the end of the rollout: how far from its start."""
    end = PhaseState(path.q[:, -1], path.p[:, -1])
    back = model.rollout(end, path.q.shape[1] - 1, -model.dt)
    returned = PhaseState(back.q[:, -1].numpy(), back.p[:, -1].numpy())
    error = metrics.reversibility_error(states, returned)
    return {"reversibility_error": error.mean()}, {}


def _moves(model, test):
    """Whether the model has collapsed to a still image."""
    return model.check_collapse(test.video[:_NUM_MOVING]).metrics(), {}


def _shown(model, test, path):
    """Some trajectories: frames and latent path."""
    path = PhaseState(*(part[:_NUM_SHOWN] for part in path))
    return {}, {
        "truth_forward": test.video[:_NUM_SHOWN],
        "model_forward": to_uint8(model.decode(path).numpy()),
        "latent_q": _flat(path.q),
        "latent_p": _flat(path.p),
    }


def _flat(x):
    return x.numpy().reshape(*x.shape[:2], -1)


def _other_speed(model, builder, test, states, name):
    """Error at another speed against the true motion, and some of it."""
    part = test[:_NUM_OTHER_SPEED]
    num_steps = part.video.shape[1] - 1
    start = PhaseState(*(each[: len(part)] for each in states))
    speed = SPEEDS[name]
    path = model.rollout(start, num_steps, speed.factor * model.dt)
    drawn = model.decode(path).numpy()
    times = speed.factor * part.dt * np.arange(num_steps + 1)
    truth = data.true_video(builder, part, times)
    error = metrics.pixel_mse_per_frame(truth / np.float32(255.0), drawn)
    return _means({speed.metric: error}), {
        f"truth_{name}": truth[:_NUM_SHOWN],
        f"model_{name}": to_uint8(drawn[:_NUM_SHOWN]),
    }


def _recorded_backward(model, test):
    """Error of a rollout from the last frames back to the first recorded."""
    part = test[:_NUM_OTHER_SPEED].video
    start = part.shape[1] - model.num_inference_frames
    if start < 1:
        return {}, {}
    path = model.rollout(model.infer(part[:, start:]), start, -model.dt)
    drawn, recorded = model.decode(path).numpy(), part[:, start::-1]
    error = metrics.pixel_mse_per_frame(recorded / np.float32(255.0), drawn)
    return _means({"recorded_backward_mse_e4": error}), {
        "truth_backward": recorded[:_NUM_SHOWN],
        "model_backward": to_uint8(drawn[:_NUM_SHOWN]),
    }


def _valid_times(times):
    """Median valid times by predictor."""
    return {
        "valid_prediction_time"
        + ("" if name == "model" else f"_{name}"): np.median(frames)
        for name, frames in times.items()
    }


def _check_dt(model, builder):
    dt = data.seconds_per_frame(builder)
    if not np.isclose(model.dt, dt, rtol=1e-4):
        raise ValueError(
            "Model and data must have the same seconds per frame. Received: "
            f"dt={model.dt:g} and videos of {dt:g}; train on these videos, or "
            "give them the frame rate or stride of the model's."
        )


def _extrapolation(model, builder, image):
    """Far past the training horizon: errors and median valid times."""
    if "test_long" not in builder.info.splits:
        return {}, {}
    long = data.load_split(builder, "test_long")
    _, errors, times = _predict(model, builder, long, image, _LONG_BATCH)
    scores = {}
    for name, error in errors.items():
        key = error_key(name, "long")
        scores[key] = 1e4 * error.mean()
        for frames in LONG_FRAMES:
            if frames <= error.shape[1]:
                scores[f"{key}_at_{frames}"] = 1e4 * error[:, :frames].mean()
    return scores | _valid_times(times), {
        f"long_{name}": x.mean(axis=0) for name, x in errors.items()
    }
