"""What a trained HGN is worth: measures beside baselines, floor and truth."""

import numpy as np

from hgn_tf import data, metrics
from hgn_tf.phase import PhaseState
from hgn_tf.viz.gif import to_uint8

# dt of a rollout in units of the model's, by name.
SPEEDS = {"backward": -1.0, "double_speed": 2.0, "half_speed": 0.5}
_LONG_FRAMES = (60, 120, 240)
# A forecast is scored from this frame on.
_FORECAST_START = 5
_BATCH = 50
_LONG_BATCH = 10
_NUM_SHOWN = 4
_NUM_OTHER_SPEED = 200
_NUM_MOVING = 100
_FLOOR_SAMPLES = 16

# Rows of the printed table: metric, what it is, what to read it against.
_TABLE = (
    ("test_mse_e4", "test MSE x 1e4", "mean over frames"),
    ("mean_image_mse_e4", "  mean image", "a model that learned nothing"),
    ("frozen_frame_mse_e4", "  frozen first frame", "no motion"),
    ("noise_floor_mse_e4", "  noise floor", "the true state's best guess"),
    ("excess_mse_e4", "  excess over the floor", ""),
    ("train_mse_e4", "train MSE x 1e4", ""),
    ("test_fvu", "test FVU", "mean image 1, perfect 0 (clean frames)"),
    ("energy_r2", "R^2 of learned with true energy", "perfect 1"),
    ("energy_drift", "drift of the learned energy", "spreads of the energy"),
    ("reversibility_error", "reversibility error", "relative to |s|"),
    ("backward_mse_e4", "backward MSE x 1e4", "against the true motion"),
    ("double_speed_mse_e4", "double speed MSE x 1e4", "likewise"),
    ("half_speed_mse_e4", "half speed MSE x 1e4", "likewise"),
    ("long_mse_e4", "test_long MSE x 1e4", "240 frames"),
    ("long_mean_image_mse_e4", "  mean image", ""),
    ("long_frozen_frame_mse_e4", "  frozen first frame", ""),
    ("valid_prediction_time", "valid prediction time", "frames, median"),
    ("valid_prediction_time_mean_image", "  mean image", ""),
    ("valid_prediction_time_frozen_frame", "  frozen first frame", ""),
    ("valid_prediction_time_noise_floor", "  noise floor", ""),
)


def evaluate(model, builder, num_examples: int | None = None, seed: int = 0):
    """Scores a trained model on the splits test, train and test_long.

    States are inferred from the first `model.num_inference_frames` frames, by
    the posterior's mean, and rolled out over all frames. Errors are squared
    errors a pixel on recorded frames in [0, 1], times 1e4 where the name says
    e4. A model that sees at most five frames is scored on the frames after
    them too, as forecast_*, where the frozen frame is the last one seen. The
    noise floor is the error of the expected frame given the true state, on
    the same frames; the excess is what lies above it. A model that saw those
    frames fits some of their noise, about 2 / frames of the floor, and may
    lie below. Backward, double speed and half speed rollouts are scored
    against the true motion, without noise.

    Args:
      model: HGN or PixelHNN.
      builder: Prepared builder of `tfds_physics`.
      num_examples: Of test; None for all. Of train at most 500 are used.
      seed: Of the samples from the prior.
    Returns: dict of flat metrics (means over trajectories, with standard
      errors under *_stderr), and dict of arrays for the report.
    """
    image = data.mean_image(builder)
    test = data.load_split(builder, "test", num_examples)
    states, errors, _ = _predict(model, builder, test, image, _BATCH)
    scores = _scores(errors)
    if model.num_inference_frames <= _FORECAST_START:
        scores |= _forecast(errors, test)
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
        *(_other_speed(model, builder, test, states, name) for name in SPEEDS),
        _extrapolation(model, builder, image),
    ):
        scores |= part[0]
        arrays |= part[1]
    if model.sample:
        samples = model.generate(8, test.video.shape[1] - 1, seed=seed)
        arrays["samples"] = to_uint8(samples.video.numpy())
    arrays["dt"] = np.float64(model.dt)
    arrays["num_inference_frames"] = np.int64(model.num_inference_frames)
    return {name: float(value) for name, value in scores.items()}, arrays


def format_scores(metrics: dict) -> str:
    """The metrics of a run beside their yardsticks, as text."""
    lines = []
    for name, title, note in _TABLE:
        if metrics.get(name) is None:
            continue
        error = metrics.get(f"{name}_stderr")
        spread = "" if error is None else f" +- {error:.3g}"
        lines.append(f"{title:34s}{metrics[name]:10.4g}{spread:13s} {note}")
    return "\n".join(line.rstrip() for line in lines)


def _predict(model, builder, trajectories, image, batch):
    """First states, errors [batch, time] by predictor, valid times by it.

    The predictors are the model, the mean image, the frozen first frame and
    the noise floor, the expected frame given the true state.
    """
    states, errors, times = [], [], []
    first = min(30, trajectories.video.shape[1] - 1)
    for start in range(0, len(trajectories), batch):
        part = trajectories[start : start + batch]
        video = part.video / np.float32(255.0)
        state = model.infer(part.video)
        path = model.rollout(state, video.shape[1] - 1)
        expected, own_error = _expected(builder, part, video)
        frames = {
            "model": model.draw(path).numpy(),
            "mean_image": np.broadcast_to(
                image.astype(np.float32), video.shape
            ),
            "frozen_frame": np.broadcast_to(video[:, :1], video.shape),
            "noise_floor": expected,
        }
        errors.append(
            {
                name: metrics.pixel_mse_per_frame(video, each)
                for name, each in frames.items()
            }
        )
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
    named = {
        "test" if name == "model" else name: x for name, x in errors.items()
    }
    named["excess"] = errors["model"] - errors["noise_floor"]
    scores = _means(named)
    baseline = errors["mean_image"].mean(axis=1)
    for name, key in (("model", "test"), ("noise_floor", "noise_floor")):
        scores[f"{key}_fvu"] = metrics.fvu(errors[name].mean(axis=1), baseline)
    return scores


def _forecast(errors, test):
    """Mean errors of the frames from _FORECAST_START on."""
    video = test.video[:, _FORECAST_START - 1 :] / np.float32(255.0)
    errors = {
        name: error[:, _FORECAST_START:] for name, error in errors.items()
    }
    still = np.broadcast_to(video[:, :1], video[:, 1:].shape)
    errors["frozen_frame"] = metrics.pixel_mse_per_frame(video[:, 1:], still)
    return _means(
        {
            "forecast" if name == "model" else f"forecast_{name}": error
            for name, error in errors.items()
        }
    )


def _means(errors):
    """Means over trajectories and their standard errors, times 1e4."""
    scores = {}
    for name, error in errors.items():
        mean, stderr = metrics.mean_and_stderr(error.mean(axis=1))
        scores[f"{name}_mse_e4"] = 1e4 * mean
        scores[f"{name}_mse_e4_stderr"] = 1e4 * stderr
    return scores


def energy_scores(along: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """How a learned energy is kept along rollouts, and follows the true one.

    energy_variance: mean over trajectories of the variance in time;
    energy_variance_share: over the variance of the first ones;
    energy_drift, energy_drift_stderr: `metrics.energy_drift`;
    energy_r2: `metrics.r_squared` of the first ones with the truth.
    The last four are NaN for a model with one energy for all it sees.

    Args:
      along: Learned energies, [batch, time].
      truth: True energies, [batch].
    """
    # Of equal numbers a mean in float32 may be another one, and their spread
    # then above 0.
    along = along.astype(np.float64)
    variance = metrics.energy_variance(along).mean()
    drift, stderr, share, r2 = np.nan, np.nan, np.nan, np.nan
    if along[:, 0].std() > 0:
        drift, stderr = metrics.mean_and_stderr(metrics.energy_drift(along))
        share = variance / along[:, 0].var()
        r2 = metrics.r_squared(along[:, 0], truth)
    return {
        "energy_variance": variance,
        "energy_r2": r2,
        "energy_drift": drift,
        "energy_drift_stderr": stderr,
        "energy_variance_share": share,
    }


def _energies(model, test, path):
    along = model.energy(path).numpy()
    return energy_scores(along, test.energy), {
        "learned_energy_along": along[:_NUM_SHOWN],
        "energy_true": test.energy,
        "energy_learned": along[:, 0],
    }


def _reversal(model, states, path):
    """Back from the end of the rollout: how far from its start."""
    end = PhaseState(path.q[:, -1], path.p[:, -1])
    back = model.rollout(end, path.q.shape[1] - 1, -model.dt)
    returned = PhaseState(back.q[:, -1].numpy(), back.p[:, -1].numpy())
    error = metrics.reversibility_error(states, returned)
    return {"reversibility_error": error.mean()}, {}


def _moves(model, test):
    """Whether the model has collapsed to a still image."""
    return model.motion(test.video[:_NUM_MOVING]).metrics(), {}


def _shown(model, test, path):
    """Some trajectories: frames and latent path."""
    path = PhaseState(*(part[:_NUM_SHOWN] for part in path))
    return {}, {
        "truth_forward": test.video[:_NUM_SHOWN],
        "model_forward": to_uint8(model.draw(path).numpy()),
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
    path = model.rollout(start, num_steps, SPEEDS[name] * model.dt)
    drawn = model.draw(path).numpy()
    times = SPEEDS[name] * part.dt * np.arange(num_steps + 1)
    truth = data.true_video(builder, part, times)
    error = metrics.pixel_mse(truth / np.float32(255.0), drawn)
    mean, stderr = metrics.mean_and_stderr(error)
    short = name.removesuffix("_speed")
    scores = {
        f"{name}_mse_e4": 1e4 * mean,
        f"{name}_mse_e4_stderr": 1e4 * stderr,
    }
    return scores, {
        f"truth_{short}": truth[:_NUM_SHOWN],
        f"model_{short}": to_uint8(drawn[:_NUM_SHOWN]),
    }


def _extrapolation(model, builder, image):
    """Far past the training horizon: errors and median valid times."""
    if "test_long" not in builder.info.splits:
        return {}, {}
    long = data.load_split(builder, "test_long")
    _, errors, times = _predict(model, builder, long, image, _LONG_BATCH)
    scores = {}
    for name, error in errors.items():
        prefix = "long_" if name == "model" else f"long_{name}_"
        scores[f"{prefix}mse_e4"] = 1e4 * error.mean()
        for frames in _LONG_FRAMES:
            if frames <= error.shape[1]:
                scores[f"{prefix}mse_e4_at_{frames}"] = (
                    1e4 * error[:, :frames].mean()
                )
    for name, frames in times.items():
        suffix = "" if name == "model" else f"_{name}"
        scores[f"valid_prediction_time{suffix}"] = np.median(frames)
    return scores, {
        f"long_{name}": x.mean(axis=0) for name, x in errors.items()
    }
