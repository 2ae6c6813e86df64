"""What a run on videos is: its settings, budgets and compiled model."""

import dataclasses
import pathlib
import shlex
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from hgn_tf import data, inspection, integrators, losses, networks, optimizers
from hgn_tf.experiments import runs
from hgn_tf.models.hgn import HGN
from hgn_tf.models.hnn import HNN
from hgn_tf.models.pixel_hnn import PixelHNN

_Settings = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Config:
    """A run. Defaults are the paper's (Toth et al., 2019) unless said.

    Attributes:
      dataset: Name of a dataset and config.
      budget: Name in BUDGETS that the settings came from.
      seed: Seed of weights, order of the data and noise.
      model: "hgn", or "pixel_hnn" for the paper's baseline.
      form: Form of the networks. For an HGN "paper" is convolutional (A.1),
        "flat" has MLPs, and "objects" is told the number of bodies, see
        `networks.object_networks`. For a pixel HNN "dense" has MLPs and "conv"
        has HGN's encoder and decoder (A.3).
      filters: Channels of the convolutions of "paper" and "conv".
      latent_size: Channels of q and of p (A.1: 16), or their length if flat;
        0 for the system's degrees of freedom, which a pixel HNN always has.
      grey_start: Whether the decoder draws a grey frame at first, see
        `networks.DenseDecoder`; not in the paper.
      block_sigmoid: Whether a sigmoid closes each block of the decoder of
        "paper". Not the paper's default: with it the model does not start.
      quadratic: Whether the energies of "paper" are |x|^2 / 2 + net, as those
        of "flat" always are. Not the paper's default either.
      learned_kinetic: Whether K has a network, as in the paper; without one
        it is |p|^2 / 2.
      energy_activation: Activation of the networks of energies, "softplus"
        (paper), "sin" or another smooth one of Keras's.
      separable: Whether the energy of "flat" is K(p) + V(q), as the paper
        has it. Without it H(q, p) is one network, and leapfrog is refused:
        "implicit_midpoint" keeps order and two-form on any energy.
      depth_to_space: Whether the decoder of "paper" has one block less, see
        `networks.Decoder`; not in the paper.
      half_precision: Whether encoder and decoder of "paper" compute in
        bfloat16: "auto" where the processor has units for it, "on" or "off".
      state_net: Whether there is an f_psi.
      integrator: Name of the integrator.
      sample: Whether z is sampled.
      num_inference_frames: Frames the state is inferred from (A.1: all).
      num_decoded_frames: Frames decoded per step; 0 for all (A.1).
      curriculum_steps: Steps until all frames are decoded; not in the paper.
      initial_horizon: First frames that are decoded.
      state_frame: Frame of a window that z is the state of; 0 in the paper.
      anchor: Where the first window of a training step is, "first" (paper) or
        "random", see `HGN`.
      rollout_steps: Steps of a training rollout, each way from a random
        anchor; 0 for the whole video (paper).
      initial_rollout_steps: Steps of the first training rollouts; 0 for the
        same length always (paper).
      rollout_from: Step up to which they have that length.
      rollout_to: Step from which they have `rollout_steps`.
      shortest_window: Frames that a window of training must have; 0 for
        `num_inference_frames`.
      agreement: Weight of the disagreement between windows, see `HGN`; 0 in
        the paper. Its unit, and that of `positions`, `isometry` and
        `low_rank`, is what the error of the mean image costs in the loss, so
        that one number serves all datasets.
      agreement_from: Step up to which the weight is 0.
      agreement_to: Step from which the weight is whole.
      num_windows: Second windows per video and step.
      reversible: Whether half of the second windows are read backward.
      positions: Weight of the disagreement of q with what a single frame
        shows, see `HGN`; 0 in the paper.
      isometry: Weight of how unlike steps of q change the picture, see `HGN`;
        0 in the paper.
      low_rank: Weight of the directions that q fills beyond one, see `HGN`; 0
        in the paper.
      keypoints: Whether a single frame shows q by `networks.KeypointNet`, else
        by `networks.PositionNet`.
      tolerance: Mean squared error per pixel that GECO allows above the noise
        floor of the data. Not in the paper; DeepMind's later configuration
        has 0.001 in all, on other pictures.
      geco_limit: Highest multiplier of GECO, which starts at 1. With 1 it
        can only fall: the loss is at most the ELBO's. Not in the paper.
      num_steps: Optimiser steps; DeepMind's later configuration: 500,000.
      steps_per_epoch: Steps between checkpoints.
      batch_size: Videos per step; DeepMind's later configuration: 128.
      num_frames: First frames of a video that are trained on; 0 for all. The
        noise floor in `tolerance`, and the unit of the weights, are those of
        all frames.
      reversed_videos: Whether half of the videos are shown last frame first;
        not in the paper.
      optimizer: "adam" (paper) or "muon", see `optimizers.Muon`.
      learning_rate: Learning rate after `warmup_steps` (A.1: 1.5e-4).
      warmup_steps: Steps of a linear warm-up; not in the paper.
      final_learning_rate: Fraction left at the end of a cosine decay; 1 for a
        constant rate, as in the paper.
    """

    dataset: str
    budget: str
    seed: int = 0
    model: str = "hgn"
    form: str = "paper"
    filters: int = 64
    latent_size: int = 16
    grey_start: bool = True
    block_sigmoid: bool = False
    quadratic: bool = True
    learned_kinetic: bool = False
    energy_activation: str = "softplus"
    separable: bool = True
    depth_to_space: bool = False
    half_precision: str = "off"
    state_net: bool = True
    integrator: str = "leapfrog"
    sample: bool = True
    num_inference_frames: int = 30
    num_decoded_frames: int = 0
    curriculum_steps: int = 0
    initial_horizon: int = 5
    state_frame: int = 0
    anchor: str = "first"
    rollout_steps: int = 0
    initial_rollout_steps: int = 0
    rollout_from: int = 0
    rollout_to: int = 0
    shortest_window: int = 0
    agreement: float = 0.0
    agreement_from: int = 500
    agreement_to: int = 1500
    num_windows: int = 2
    reversible: bool = False
    positions: float = 0.0
    isometry: float = 0.0
    low_rank: float = 0.0
    keypoints: bool = False
    tolerance: float = 1e-4
    geco_limit: float = 100.0
    num_steps: int = 500_000
    steps_per_epoch: int = 500
    batch_size: int = 128
    num_frames: int = 0
    reversed_videos: bool = False
    optimizer: str = "adam"
    learning_rate: float = 1.5e-4
    warmup_steps: int = 0
    final_learning_rate: float = 1.0


# What a budget changes. Times are on two CPU cores, see results/.
_CPU: _Settings = {
    "form": "flat",
    "filters": 16,
    "latent_size": 0,
    "num_decoded_frames": 8,
    "curriculum_steps": 1500,
    "tolerance": 2.5e-4,
    "geco_limit": 1.0,
    "steps_per_epoch": 250,
    "batch_size": 32,
    "reversed_videos": True,
    "learning_rate": 2e-3,
    "warmup_steps": 50,
    "final_learning_rate": 0.02,
}
# Energies that bend soon, and steps of q that change the picture evenly: see
# docs/law_trials.md.
_SINES: _Settings = {"energy_activation": "sin"}
_SINES_AND_ISOMETRY: _Settings = {**_SINES, "isometry": 3.0}
# As in the paper.
_SOFTPLUS: _Settings = {"energy_activation": "softplus", "isometry": 0.0}
# Told nothing of the system, asked for one law: see docs/law.md.
_LAW: _Settings = {
    **_CPU,
    "latent_size": 16,
    "tolerance": 0.5e-4,
    "agreement": 1.0,
    "positions": 3.0,
    "keypoints": True,
    "agreement_from": 200,
    "agreement_to": 800,
    "optimizer": "muon",
}
# States amid windows that stand anywhere, and rollouts both ways from them.
_BOTH_WAYS: _Settings = {
    **_LAW,
    "state_frame": 15,
    "shortest_window": 20,
    "reversible": True,
    "anchor": "random",
    "rollout_steps": 20,
}
BUDGETS: dict[str, _Settings] = {
    "demo": {**_LAW, "num_inference_frames": 5, "num_steps": 3000},
    "cpu": {**_CPU, "num_steps": 8000},
    "flat": {**_BOTH_WAYS, **_SINES, "num_steps": 4000},
    # On videos of 120 frames: rollouts are short until the law is found.
    "far": {
        **_BOTH_WAYS,
        **_SINES_AND_ISOMETRY,
        "num_steps": 5000,
        "rollout_steps": 59,
        "initial_rollout_steps": 20,
        "rollout_from": 1500,
        "rollout_to": 3500,
    },
    # Clean videos of 120 frames, of which five are seen.
    "clean": {
        **_BOTH_WAYS,
        **_SINES_AND_ISOMETRY,
        "num_inference_frames": 5,
        "shortest_window": 0,
        "state_frame": 2,
        "num_steps": 5000,
        "rollout_steps": 59,
        "initial_rollout_steps": 10,
        "rollout_from": 1500,
        "rollout_to": 4000,
    },
    # Told the number of bodies, and that pairs of them act on each other.
    "objects": {
        **_BOTH_WAYS,
        "form": "objects",
        "latent_size": 0,
        "num_steps": 3000,
        "curriculum_steps": 500,
    },
    "conv": {
        **_BOTH_WAYS,
        "form": "paper",
        "filters": 32,
        "learned_kinetic": True,
        "half_precision": "auto",
        # Trials with Muon had found less of the law when they were stopped.
        # With 16 videos per step two bodies found no law at this rate.
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "num_steps": 4000,
        "tolerance": 1e-4,
        "curriculum_steps": 1000,
    },
    "paper": {
        "block_sigmoid": True,
        "grey_start": False,
        "quadratic": False,
        "learned_kinetic": True,
    },
}

# With one degree of freedom a learned K leaves the energy open: the motion can
# be right and the energy bent, see docs/law_trials.md. One body that keeps its
# looks and stays in the picture allows isometry.
_ONE_DEGREE: _Settings = {**_SINES_AND_ISOMETRY, "learned_kinetic": False}
# What a budget changes for one system. Three bodies part exponentially: of
# rollouts of 59 steps the far frames drown the near ones. And they leave the
# picture, in a third of the frames past the sixtieth. With all 120 frames q was
# drawn out along one axis. With sines and isometry the near frames were worse,
# and with sines alone the law.
OF_SYSTEM: dict[tuple[str, str], _Settings] = {
    ("far", "physics_three_body"): {
        **_SOFTPLUS,
        "num_frames": 60,
        "rollout_steps": 35,
    },
    # With one degree of freedom q needs one direction. Of two bodies this
    # weight would make a line, see docs/law_trials.md.
    ("clean", "physics_pendulum"): {"low_rank": 0.3},
    ("conv", "physics_mass_spring"): _ONE_DEGREE,
    ("conv", "physics_pendulum"): _ONE_DEGREE,
    # Three bodies are drawn after 500 steps. With agreement from step 200 on
    # the frames were still the mean image after 1,000.
    ("conv", "physics_three_body"): {
        "agreement_from": 1000,
        "agreement_to": 2000,
    },
}

_OPTIMIZERS = {"adam": keras.optimizers.Adam, "muon": optimizers.Muon}

# Seconds per frame that the settings were found with. Another dt is brought to
# it by a factor of H, so that the first motion per frame is the same.
_USUAL_DT = 0.125

_HGN_FORMS = ("paper", "flat", "objects")
_PIXEL_HNN_FORMS = ("dense", "conv")
# The forms that read a setting, of all settings.
READ_BY: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (
            "dataset",
            "budget",
            "seed",
            "model",
            "form",
            "num_steps",
            "steps_per_epoch",
            "batch_size",
            "num_frames",
            "reversed_videos",
            "optimizer",
            "learning_rate",
            "warmup_steps",
            "final_learning_rate",
        ),
        _HGN_FORMS + _PIXEL_HNN_FORMS,
    ),
    **dict.fromkeys(
        (
            "latent_size",
            "learned_kinetic",
            "half_precision",
            "state_net",
            "integrator",
            "sample",
            "num_inference_frames",
            "num_decoded_frames",
            "curriculum_steps",
            "initial_horizon",
            "state_frame",
            "anchor",
            "rollout_steps",
            "initial_rollout_steps",
            "rollout_from",
            "rollout_to",
            "shortest_window",
            "agreement",
            "agreement_from",
            "agreement_to",
            "num_windows",
            "reversible",
            "positions",
            "isometry",
            "low_rank",
            "tolerance",
            "geco_limit",
        ),
        _HGN_FORMS,
    ),
    "filters": ("paper", "conv"),
    "block_sigmoid": ("paper",),
    "quadratic": ("paper",),
    "energy_activation": ("paper", "flat"),
    "depth_to_space": ("paper",),
    "grey_start": ("paper", "flat"),
    "keypoints": ("paper", "flat"),
    "separable": ("flat",),
}
# Settings that are read where one of others is on.
_READ_WITH: dict[str, tuple[str, ...]] = {
    "agreement_from": ("agreement", "positions", "isometry", "low_rank"),
    "agreement_to": ("agreement", "positions", "isometry", "low_rank"),
    "num_windows": ("agreement",),
    "reversible": ("agreement",),
    "keypoints": ("positions",),
    "initial_horizon": ("curriculum_steps",),
    "rollout_from": ("initial_rollout_steps",),
    "rollout_to": ("initial_rollout_steps",),
    "learned_kinetic": ("separable",),
}

_LOWEST = {
    "filters": 1,
    "latent_size": 0,
    "num_decoded_frames": 0,
    "state_frame": 0,
    "rollout_steps": 0,
    "initial_rollout_steps": 0,
    "shortest_window": 0,
    "geco_limit": 1.0,
    "num_steps": 1,
    "steps_per_epoch": 1,
    "batch_size": 1,
    "num_frames": 0,
    "learning_rate": 0.0,
    "final_learning_rate": 0.0,
}

# The runs of table 1.
SYSTEMS = ("mass_spring", "pendulum", "two_body", "three_body")
# Paper: 50,000 videos of a system. Here for the budget cpu: 20,000 of them.
DATASETS = {
    "cpu": "physics_{}/small",
    "flat": "physics_{}/small",
    "far": "physics_{}/long",
    "conv": "physics_{}/small",
    "paper": "physics_{}",
}

# What a model changes in the budget.
VARIANTS: dict[str, _Settings] = {
    "hgn_leapfrog": {},
    "hgn_euler": {"integrator": "euler"},
    "hgn_determ": {"sample": False},
    "hgn_no_fpsi": {"state_net": False},
    # A.3: HNN's own learning rate, and HGN's for the convolutional form.
    "pixel_hnn": {
        "model": "pixel_hnn",
        "form": "dense",
        "optimizer": "adam",
        "learning_rate": 1e-3,
    },
    "pixel_hnn_conv": {
        "model": "pixel_hnn",
        "form": "conv",
        "optimizer": "adam",
    },
}

# The second table: 25 frames from the first 5. A pixel HNN sees two in either.
# A name is of one table, so that a row can be asked for.
FORECAST: dict[str, _Settings] = {
    "hgn_forecast": {
        "num_inference_frames": 5,
        "shortest_window": 0,
        "state_frame": 0,
    }
}
TABLES = {"table1": VARIANTS, "table1_forecast": FORECAST}


# Rows of a study: budget, and what a row changes in it.
_Rows = dict[str, tuple[str, _Settings]]

# The study of what brings a law.
_FLAT_STUDY: _Settings = {**_SOFTPLUS, "num_steps": 3000}
# Of these two systems a law shows after 1,000 steps, a fifth of an hour.
_CONV_STUDY = {"num_steps": 1000, "curriculum_steps": 500}
ABLATION: _Rows = {
    "flat": ("flat", _FLAT_STUDY),
    "sines": ("flat", {**_FLAT_STUDY, **_SINES}),
    "isometry": ("flat", {**_FLAT_STUDY, "isometry": 3.0}),
    "no_agreement": ("flat", {**_FLAT_STUDY, "agreement": 0.0}),
    "no_positions": ("flat", {**_FLAT_STUDY, "positions": 0.0}),
    "neither": ("flat", {**_FLAT_STUDY, "agreement": 0.0, "positions": 0.0}),
    "windows_forward_only": ("flat", {**_FLAT_STUDY, "reversible": False}),
    "first_anchor": (
        "flat",
        {**_FLAT_STUDY, "anchor": "first", "rollout_steps": 0},
    ),
    "first_state": ("flat", {**_FLAT_STUDY, "state_frame": 0}),
    "bent_positions": ("flat", {**_FLAT_STUDY, "keypoints": False}),
    "adam": ("flat", {**_FLAT_STUDY, "optimizer": "adam"}),
    "learned_kinetic": ("flat", {**_FLAT_STUDY, "learned_kinetic": True}),
    "multiplier_100": ("flat", {**_FLAT_STUDY, "geco_limit": 100.0}),
    "random_start": ("flat", {**_FLAT_STUDY, "grey_start": False}),
    "latent_of_the_system": ("flat", {**_FLAT_STUDY, "latent_size": 0}),
    "decodes_4_frames": ("flat", {**_FLAT_STUDY, "num_decoded_frames": 4}),
    "long_videos": (
        "flat",
        {
            **_FLAT_STUDY,
            "dataset": "physics_{}/long",
            "rollout_steps": 59,
        },
    ),
    "conv": ("conv", _CONV_STUDY),
    "conv_no_agreement": ("conv", {**_CONV_STUDY, "agreement": 0.0}),
    "conv_no_positions": ("conv", {**_CONV_STUDY, "positions": 0.0}),
    "conv_depth_to_space": ("conv", {**_CONV_STUDY, "depth_to_space": True}),
    "conv_first_anchor": (
        "conv",
        {**_CONV_STUDY, "anchor": "first", "rollout_steps": 0},
    ),
    "conv_sigmoid": ("conv", {**_CONV_STUDY, "block_sigmoid": True}),
    "conv_random_start": ("conv", {**_CONV_STUDY, "grey_start": False}),
    "conv_not_quadratic": ("conv", {**_CONV_STUDY, "quadratic": False}),
    "conv_fixed_kinetic": ("conv", {**_CONV_STUDY, "learned_kinetic": False}),
    "conv_learned_kinetic": ("conv", {**_CONV_STUDY, "learned_kinetic": True}),
    "conv_multiplier_100": ("conv", {**_CONV_STUDY, "geco_limit": 100.0}),
    "conv_float32": ("conv", {**_CONV_STUDY, "half_precision": "off"}),
    "conv_64_filters": ("conv", {**_CONV_STUDY, "filters": 64}),
}
# What the budget `conv` has for a system is no row of it.
_NO_ROWS = {
    "pendulum": ("conv_fixed_kinetic",),
    "two_body": ("conv_learned_kinetic",),
}
ABLATION_ROWS = {
    system: tuple(row for row in ABLATION if row not in left_out)
    for system, left_out in _NO_ROWS.items()
}


# The protocol of HGN++: clean videos, of which five frames are seen.
_LONG_CLEAN = {"dataset": "physics_{}/long_clean"}
CLEAN: _Rows = {
    "law": ("clean", _LONG_CLEAN),
    "published": (
        "clean",
        {
            **_LONG_CLEAN,
            "agreement": 0.0,
            "positions": 0.0,
            **_SOFTPLUS,
            "low_rank": 0.0,
            "rollout_steps": 30,
            "initial_rollout_steps": 0,
            "state_net": False,
            "learned_kinetic": True,
            "optimizer": "adam",
            "reversed_videos": False,
        },
    ),
    "joint": (
        "clean",
        {
            **_LONG_CLEAN,
            "separable": False,
            "integrator": "implicit_midpoint",
        },
    ),
}
# The energy of a double pendulum does not separate; those of the others do.
_SEPARABLE_ROWS = ("law", "published")
CLEAN_ROWS = {
    "mass_spring": _SEPARABLE_ROWS,
    "pendulum": _SEPARABLE_ROWS,
    "two_body": _SEPARABLE_ROWS,
    "double_pendulum": (*_SEPARABLE_ROWS, "joint"),
}


def make_config(dataset: str, budget: str, **changes) -> Config:
    """The Config of a budget, with some settings changed.

    Raises:
      ValueError: if the budget or a setting is unknown.
      ValueError: if the form of the model does not read a changed setting.
      ValueError: if a number is too low.
    """
    if budget not in BUDGETS:
        raise ValueError(
            f"`budget` must be one of {list(BUDGETS)}. Received: {budget!r}."
        )
    runs.check_settings(changes, Config)
    settings = {
        **BUDGETS[budget],
        **OF_SYSTEM.get((budget, dataset.partition("/")[0]), {}),
        **changes,
    }
    config = Config(dataset, budget, **settings)
    _check_read(config, changes)
    runs.check_seed(config.seed)
    # What Keras would complain of in words of its own.
    for name, lowest in _LOWEST.items():
        # A NaN is not below it either.
        if not lowest <= getattr(config, name) < float("inf"):
            raise ValueError(
                f"`{name}` must be at least {lowest}, and finite. Received: "
                f"{getattr(config, name)}."
            )
    return config


def of_systems(*budgets: str) -> list[str]:
    """The settings that budgets have by system."""
    return sorted(
        {
            setting
            for (budget, _), changes in OF_SYSTEM.items()
            if budget in budgets
            for setting in changes
        }
    )


def of_form(settings: _Settings, form: str) -> _Settings:
    """Those of some settings that a form reads; all for an unknown one."""
    known = any(form in forms for forms in READ_BY.values())
    return {
        name: value
        for name, value in settings.items()
        if not known or form in READ_BY.get(name, ())
    }


def check_forms(changes: _Settings, forms: Sequence[str]) -> None:
    """Each setting that is changed is read by one of some forms, at least.

    Raises: ValueError: if one is not.
    """
    for name, value in changes.items():
        if not any(of_form({name: value}, form) for form in forms):
            raise ValueError(
                f"`{name}` must be left to the forms that read it, "
                f"{list(READ_BY[name])}. Received: {name}={value} for the "
                f"forms {sorted(set(forms))}."
            )


def _check_read(config, changes):
    """Settings that are changed are read by the model."""
    check_forms(changes, [config.form])
    for name, value in changes.items():
        # What says that a thing is off says the truth.
        if value is not False and not _is_on(config, name):
            others = [
                f"{other}={getattr(config, other)}"
                for other in _READ_WITH[name]
            ]
            raise ValueError(
                f"`{name}` is read with {' or '.join(_READ_WITH[name])} alone. "
                f"Received: {name}={value} and {', '.join(others)}."
            )


def _is_on(config, name):
    """Whether what a setting belongs to is on."""
    others = _READ_WITH.get(name, ())
    return not others or any(getattr(config, other) for other in others)


def check_config(config: Config, builder: data.Builder) -> None:
    """Checks of a run all that can be checked before its dataset is made.

    Args:
      config: Settings of the run.
      builder: Builder of its dataset, prepared or not.
    Raises: ValueError: if the settings fit no model, or not the dataset.
    """
    highest = {
        "batch_size": builder.builder_config.sizes["train"]
        if data.has_truth(builder)
        else builder.info.splits["train"].num_examples
    }
    highest["num_frames"] = data.frames_per_video(builder, "train")
    if config.model == "hgn":
        highest["num_inference_frames"] = data.frames_per_video(builder)
        highest["num_decoded_frames"] = highest["num_frames"]
    for name, limit in highest.items():
        if getattr(config, name) > limit:
            # 0 for all: a budget may have asked for more than there are.
            hint = "; 0 for all" if name == "num_frames" else ""
            raise ValueError(
                f"`{name}` must be at most {limit}, for so many are in "
                f"{config.dataset}{hint}. Received: {getattr(config, name)}."
            )
    steps = min(config.steps_per_epoch, config.num_steps)
    if config.num_steps % steps:
        raise ValueError(
            "`num_steps` must be a multiple of `steps_per_epoch`. Received: "
            f"{config.num_steps} and {config.steps_per_epoch}."
        )
    if not config.separable and _needs_separable(config.integrator):
        raise ValueError(
            "`separable` must be true for an integrator made of leapfrog "
            "steps; for one energy of both q and p set integrator="
            "implicit_midpoint. Received: separable=False and integrator="
            f"{config.integrator}."
        )
    _optimizer(config)
    # The tolerance on data that are not there yet does not matter here.
    model = _put_together(config, builder, config.tolerance, 1.0)
    _check_length(model, config, highest["num_frames"])


def _check_length(model, config, frames):
    """The model can train on the frames that it is shown."""
    shown = config.num_frames or frames
    try:
        model.check_length(shown)
        if config.model == "hgn" and config.num_decoded_frames > shown:
            raise ValueError(
                f"A step decodes {config.num_decoded_frames} frames. "
                f"Received: {shown}."
            )
    except ValueError as error:
        if not config.num_frames:
            raise
        raise ValueError(
            f"`num_frames` is too low; 0 for all {frames}. {error}"
        ) from None


def _needs_separable(integrator):
    method = integrators.INTEGRATORS.get(integrator)
    return method is not None and bool(method.lengths)


def train_command(config: Config, run_dir: pathlib.Path) -> str:
    """The command that makes a run anew, in this folder.

    Settings that the run does not read are left out.
    """
    budget = make_config(config.dataset, config.budget, seed=config.seed)
    changes = [
        f"--set {name}={value}"
        for name, value in of_form(
            dataclasses.asdict(config), config.form
        ).items()
        if value != getattr(budget, name) and _is_on(config, name)
    ]
    return " ".join(
        [
            f"hgn-tf train {config.dataset} --budget {config.budget}",
            f"--seed {config.seed}",
            *changes,
            f"--out {shlex.quote(str(run_dir))}",
        ]
    )


def make_model(config: Config, builder: data.Builder) -> HGN | PixelHNN:
    """The compiled and built model of a run.

    Raises:
      ValueError: if there is no such model or form.
      ValueError: if a constant image meets the tolerance.
    """
    measured = (
        measure_data(builder, config.tolerance)
        if config.model == "hgn"
        else (config.tolerance, 1.0)
    )
    model = _put_together(config, builder, *measured)
    model.compile(_optimizer(config))
    frames = data.frames_per_video(builder)
    model.build((None, frames, *data.frame_shape(builder)))
    return model


def _put_together(config, builder, tolerance, unit):
    """The model, neither compiled nor built."""
    if config.model == "hgn":
        return _make_hgn(config, builder, tolerance, unit)
    if config.model == "pixel_hnn":
        return _make_pixel_hnn(config, builder)
    raise ValueError(
        "`model` must be one of ['hgn', 'pixel_hnn']. Received: "
        f"{config.model!r}."
    )


def check_own_videos(config: Config) -> None:
    """What your own videos do not tell a model: to be asked before any is read.

    Args:
      config: Settings of a run, without those that are proposed.
    Raises: ValueError: if the model needs to know more than videos tell.
    """
    if config.model == "pixel_hnn":
        raise ValueError(
            "A pixel HNN has a latent of the degrees of freedom, which your "
            "own videos do not tell. Received: model=pixel_hnn; take an HGN."
        )
    if config.form == "objects":
        if not config.latent_size:
            raise ValueError(
                'The form "objects" must be told the bodies of your own '
                "videos, by a `latent_size` of two numbers for each. Received: "
                "0; --set latent_size=4 for two bodies."
            )
        _number_of_bodies(config, config.latent_size)


def _degrees_of_freedom(config, builder):
    if data.has_truth(builder):
        return builder.recipe.system.dof
    check_own_videos(config)
    raise ValueError(
        "`latent_size` must be above 0 for your own videos, whose degrees of "
        "freedom are not known. Received: 0; --set latent_size=16."
    )


def _number_of_bodies(config, size):
    if config.learned_kinetic:
        raise ValueError(
            'The form "objects" has K = |p|^2 / 2. Received: learned_kinetic='
            "True; set it to false."
        )
    if size % 2 or size < 4:
        raise ValueError(
            'The form "objects" must have two bodies or more in the plane, and '
            f"two numbers for each. Received: {size} numbers."
        )
    return size // 2


def _make_hgn(config, builder, tolerance, unit):
    size = config.latent_size or _degrees_of_freedom(config, builder)
    *sides, channels = data.frame_shape(builder)
    dt = data.seconds_per_frame(builder)
    dtype = picture_dtype(config)
    parts = _networks(
        config.form,
        {
            "paper": lambda: networks.paper_networks(
                sides,
                channels,
                filters=config.filters,
                latent_channels=size,
                block_activation="sigmoid" if config.block_sigmoid else None,
                grey_start=config.grey_start,
                quadratic=config.quadratic,
                learned_kinetic=config.learned_kinetic,
                energy_activation=config.energy_activation,
                depth_to_space=config.depth_to_space,
                picture_dtype=dtype,
                position_net=config.positions > 0,
                keypoints=config.keypoints,
                rate=_USUAL_DT / dt,
            ),
            "flat": lambda: networks.flat_networks(
                sides,
                channels,
                latent_size=size,
                kinetic_units=(128, 128) if config.learned_kinetic else (),
                separable=config.separable,
                energy_activation=config.energy_activation,
                grey_start=config.grey_start,
                position_net=config.positions > 0,
                keypoints=config.keypoints,
                rate=_USUAL_DT / dt,
            ),
            "objects": lambda: networks.object_networks(
                _number_of_bodies(config, size),
                sides,
                channels,
                position_net=config.positions > 0,
                rate=_USUAL_DT / dt,
            ),
        },
    )
    if not config.state_net:
        parts["state_net"] = None
    return HGN(
        **parts,
        num_inference_frames=config.num_inference_frames,
        num_decoded_frames=config.num_decoded_frames or None,
        curriculum_steps=config.curriculum_steps,
        initial_horizon=config.initial_horizon,
        anchor=config.anchor,
        rollout_steps=config.rollout_steps or None,
        initial_rollout_steps=config.initial_rollout_steps or None,
        # Those of one length have no ramp.
        rollout_ramp=(config.rollout_from, config.rollout_to)
        if config.initial_rollout_steps
        else (0, 0),
        state_frame=config.state_frame,
        shortest_window=config.shortest_window or None,
        agreement=unit * config.agreement,
        agreement_ramp=(config.agreement_from, config.agreement_to),
        num_windows=config.num_windows,
        # Without second windows none is read backward.
        reversible=config.reversible and config.agreement > 0,
        positions=unit * config.positions,
        isometry=unit * config.isometry,
        low_rank=unit * config.low_rank,
        integrator=config.integrator,
        dt=dt,
        stochastic=config.sample,
        geco=losses.Geco(tolerance, limits=(0.01, config.geco_limit)),
        seed=config.seed,
    )


def picture_dtype(config: Config) -> str:
    """The dtype policy of encoder and decoder on this processor.

    Raises: ValueError: for an unknown setting, or bfloat16 in another form.
    """
    choices = {
        "off": False,
        "on": True,
        "auto": networks.has_bfloat16_units(),
    }
    if config.half_precision not in choices:
        raise ValueError(
            f"`half_precision` must be one of {list(choices)}. Received: "
            f"{config.half_precision!r}."
        )
    if config.half_precision != "off" and config.form != "paper":
        raise ValueError(
            '`half_precision` is for the form "paper", whose convolutions '
            f"gain by it. Received: form {config.form!r}; set it off."
        )
    return "mixed_bfloat16" if choices[config.half_precision] else "float32"


def _make_pixel_hnn(config, builder):
    latent_size = 2 * _degrees_of_freedom(config, builder)
    *sides, channels = data.frame_shape(builder)
    parts = _networks(
        config.form,
        {
            "dense": lambda: networks.dense_pair_networks(
                (2, *sides, channels), latent_size
            ),
            "conv": lambda: networks.conv_pair_networks(
                sides,
                channels,
                filters=config.filters,
                latent_size=latent_size,
                # With sigmoids between blocks it stayed at the mean image.
                block_activation=None,
            ),
        },
    )
    # Paper: weight decay of 1e-5, on what is not said. Here not on H: its
    # share of the loss pulls less than the decay, which took it to 0.
    dt = data.seconds_per_frame(builder)
    return PixelHNN(**parts, dynamics=HNN(), dt=dt, seed=config.seed)


def _networks(form, forms):
    if form not in forms:
        raise ValueError(
            f"`form` must be one of {list(forms)}. Received: {form!r}."
        )
    return forms[form]()


def _optimizer(config):
    if config.optimizer not in _OPTIMIZERS:
        raise ValueError(
            f"`optimizer` must be one of {list(_OPTIMIZERS)}. "
            f"Received: {config.optimizer!r}."
        )
    return _OPTIMIZERS[config.optimizer](_learning_rate(config))


def _learning_rate(config):
    """A linear warm-up, then a cosine down to a fraction of the rate."""
    if not 0 <= config.warmup_steps < config.num_steps:
        raise ValueError(
            "`warmup_steps` must be at least 0 and below `num_steps`. "
            f"Received: {config.warmup_steps} and {config.num_steps}."
        )
    warm = config.warmup_steps > 0
    return keras.optimizers.schedules.CosineDecay(
        0.0 if warm else config.learning_rate,
        config.num_steps - config.warmup_steps,
        alpha=config.final_learning_rate,
        warmup_target=config.learning_rate if warm else None,
        warmup_steps=config.warmup_steps,
    )


def measure_data(
    builder: data.Builder, above_floor: float
) -> tuple[float, float]:
    """GECO's tolerance for a dataset, and what the mean image costs with it.

    The tolerance is the noise floor and a margin. The mean image's cost is its
    reconstruction term, error / (2 tolerance). Of your own videos the floor is
    the noise of still pixels, see `inspection.noise_variance`.

    Args:
      builder: Prepared builder of `tfds_physics`.
      above_floor: Margin above the noise floor, a mean squared error per
        pixel.
    Raises: ValueError: if the mean image meets it, for then a model that
      draws nothing but that image satisfies the constraint.
    """
    some = data.load_split(builder, "train", 200)
    video = some.video / np.float32(255.0)
    mean_image = float(np.square(video - video.mean(axis=(0, 1))).mean())
    floor = 0.0
    if not data.has_truth(builder):
        floor = inspection.noise_variance(some.video)
    elif builder.recipe.noise:
        floor = float(data.expected_frames(builder, some, 16)[1].mean())
    if not 0 < above_floor < mean_image - floor:
        raise ValueError(
            "`tolerance` must be above 0 and below "
            f"{mean_image - floor:.2e}, or the mean image meets the "
            f"constraint (its error is {mean_image:.2e}, the noise floor "
            f"{floor:.2e}). Received: {above_floor:.2e}."
        )
    tolerance = floor + above_floor
    return tolerance, mean_image / (2.0 * tolerance)
