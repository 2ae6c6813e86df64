"""Runs that are stopped go on where they were, and bad ones stop clearly."""

import os
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from hgn_tf import HGN, HNN, networks, training

STEPS, PER_EPOCH = 6, 2
VIDEO = np.random.default_rng(0).integers(0, 255, (12, 6, 8, 8, 3), np.uint8)


def make_model():
    keras.utils.set_random_seed(3)
    parts = networks.flat_networks(
        8,
        latent_size=2,
        encoder_filters=(4,),
        state_units=(8,),
        kinetic_units=(8,),
        potential_units=(8,),
        decoder_units=(8,),
    )
    model = HGN(
        **parts,
        num_inference_frames=3,
        num_decoded_frames=2,
        curriculum_steps=4,
        seed=5,
    )
    model.compile(keras.optimizers.Adam(1e-2))
    model.build((None, *VIDEO.shape[1:]))
    return model


def batches(first_step):
    def rows(step):
        index = tf.random.experimental.stateless_shuffle(
            tf.range(12), tf.stack([tf.constant(7, tf.int64), step])
        )
        return tf.gather(VIDEO, index[:4])

    return tf.data.Dataset.counter(start=first_step, step=1).map(rows)


def run(folder, *callbacks, **kwargs):
    model = make_model()
    training.fit(
        model,
        batches,
        folder,
        STEPS,
        PER_EPOCH,
        callbacks=callbacks,
        verbose=0,
        **kwargs,
    )
    return model


def test_a_model_that_counts_no_dropped_steps_is_trained_too(tmp_path):
    x, dx = np.random.default_rng(0).normal(size=(2, 8, 2)).astype(np.float32)
    model = HNN((4,))
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    model.build((None, 2))
    data = tf.data.Dataset.from_tensors((x, dx)).repeat()
    training.fit(model, lambda first: data, tmp_path, 4, 2, verbose=0)
    assert [
        row["epoch"] for row in training.read_log(tmp_path / "log.csv")
    ] == [
        "0",
        "1",
    ]


def weights(model):
    return values([*model.variables, *model.optimizer.variables])


def values(variables):
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


class StopIn(keras.callbacks.Callback):
    """Breaks off in the middle of an epoch, as a kill would."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.steps) == self.step:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return folder, weights(run(folder))


@pytest.fixture(scope="module", params=[1, 3, 4, 5])
def resumed(request, tmp_path_factory):
    """A run that was stopped in a step, and went on to its end."""
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.raises(KeyboardInterrupt):
        run(folder, StopIn(request.param))
    # What a kill in the middle of a write leaves behind.
    checkpoints = folder / "checkpoints"
    checkpoints.mkdir(exist_ok=True)
    (checkpoints / "partial-1-000003.keras").write_bytes(b"half")
    (folder / "partial-1-log.csv").write_bytes(b"half")
    if training.checkpoints(folder):
        (checkpoints / "partial-1-model.weights.h5").write_bytes(b"half")
    # A kill after the log was written and before the checkpoint was.
    log = folder / "log.csv"
    if log.exists():
        log.write_text(log.read_text() + "2,0.5")
    return folder, weights(run(folder))


def test_a_stopped_run_ends_at_the_same_weights(resumed, whole):
    for left, right in zip(resumed[1], whole[1], strict=True):
        np.testing.assert_array_equal(left, right)


def test_what_a_kill_left_half_written_is_gone_at_the_end(resumed):
    assert not any(map(training.files.is_partial, resumed[0].rglob("*")))


def test_resuming_needs_no_folder_of_temporary_files(
    whole, tmp_path, monkeypatch
):
    folder = shutil.copytree(whole[0], tmp_path / "run")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    model = make_model()
    model.optimizer.build(model.trainable_variables)
    assert training.restore(model, folder) == STEPS // PER_EPOCH
    for left, right in zip(weights(model), whole[1], strict=True):
        np.testing.assert_array_equal(left, right)


def test_the_log_has_each_epoch_once_after_a_stop(resumed, whole):
    rows = training.read_log(resumed[0] / "log.csv")
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    there = training.read_log(whole[0] / "log.csv")
    assert [row["loss"] for row in rows] == [row["loss"] for row in there]


def test_a_finished_run_is_left_as_it_is(whole):
    folder, expected = whole
    for left, right in zip(weights(run(folder)), expected, strict=True):
        np.testing.assert_array_equal(left, right)


def test_two_checkpoints_are_kept_and_nothing_half_written(whole):
    names = [path.name for path in (whole[0] / "checkpoints").iterdir()]
    assert sorted(names) == ["000002.keras", "000003.keras"]


def test_a_checkpoint_cut_in_half_is_named_with_the_remedy(whole, tmp_path):
    folder = shutil.copytree(whole[0], tmp_path / "run")
    last = training.checkpoints(folder)[-1]
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    with pytest.raises(ValueError, match=f"{last.name}.*Remove it"):
        run(folder)
    last.unlink()
    for left, right in zip(weights(run(folder)), whole[1], strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_full_disk_is_told_and_keeps_the_checkpoint_before(tmp_path, room):
    checkpoint = training.Checkpoint(tmp_path)
    checkpoint.set_model(make_model())
    checkpoint.on_epoch_end(0)
    with room(9000), pytest.raises(OSError, match="Errno.*000002.keras"):
        checkpoint.on_epoch_end(1)
    names = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    assert names == ["000001.keras"]


def test_weights_of_an_earlier_version_are_gone_on_from(whole, tmp_path):
    model = make_model()
    model.optimizer.build(model.trainable_variables)
    training.restore(model, whole[0])
    (tmp_path / "checkpoints").mkdir()
    model.save_weights(tmp_path / "checkpoints" / "000003.weights.h5")
    for left, right in zip(weights(run(tmp_path)), whole[1], strict=True):
        np.testing.assert_array_equal(left, right)


def test_rows_of_other_columns_keep_their_titles(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("epoch,loss\n0,0.5\n1,0.25,9\n2,0")
    log = training.Log(path, {"note": "half"})
    log.on_epoch_end(2, {"zeta": 3.0, "alpha": 1.0})
    first, second, third = training.read_log(path)
    assert first["loss"] == "0.5" and first["note"] == ""
    assert second["loss"] == "0.25" and second["epoch"] == "1"
    assert third == {
        "epoch": "2",
        "loss": "",
        "alpha": "1.0",
        "zeta": "3.0",
        "note": "half",
    }


def test_two_runs_in_one_folder_are_told(tmp_path):
    with training.files.sole_user(tmp_path):
        with pytest.raises(BlockingIOError, match="one process at a time"):
            run(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_model_that_cannot_be_saved_is_told_before_it_is_trained(tmp_path):
    def get_config():
        raise NotImplementedError("an own part\nhas none")

    model = make_model()
    model.get_config = get_config
    with pytest.raises(ValueError, match="Keras can save.*own part has none"):
        training.fit(model, batches, tmp_path, STEPS, PER_EPOCH, verbose=0)
    assert not list(tmp_path.iterdir())


def test_too_many_dropped_steps_stop_the_run(tmp_path):
    def nan_batches(first_step):
        video = tf.fill((4, *VIDEO.shape[1:]), np.float32(np.nan))
        return tf.data.Dataset.from_tensors(video).repeat()

    model = make_model()
    before = values(model.trainable_variables)
    # The check at the door looks at floats; here they go bad behind it.
    model._asks_for_values = lambda spec: False
    with pytest.raises(ArithmeticError, match="At most 1 steps.*Received: 2"):
        training.fit(
            model,
            nan_batches,
            tmp_path,
            STEPS,
            PER_EPOCH,
            max_dropped_steps=1,
            verbose=0,
        )
    after = values(model.trainable_variables)
    for left, right in zip(after, before, strict=True):
        np.testing.assert_array_equal(left, right)
    assert int(model.optimizer.iterations) == 0


@pytest.mark.parametrize("steps, per_epoch", [(5, 2), (0, 1), (4, 0)])
def test_steps_must_fill_epochs(steps, per_epoch, tmp_path):
    with pytest.raises(ValueError, match="positive multiple"):
        training.fit(make_model(), batches, tmp_path, steps, per_epoch)


COMMAND = (
    [sys.executable, "-m", "hgn_tf", "train", "physics_pendulum/tiny"]
    + ["--budget", "demo", "--set", "num_steps=60", "--set", "batch_size=8"]
    + ["--set", "steps_per_epoch=4", "--set", "warmup_steps=5"]
)


@pytest.mark.slow
def test_sigkill_and_again_ends_at_the_same_weights(data_dir, tmp_path):
    options = ["--data-dir", str(data_dir), "--out"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([*COMMAND, *options, str(whole)], check=True)
    process = subprocess.Popen([*COMMAND, *options, str(killed)])
    while len(training.checkpoints(killed)) < 2:
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    subprocess.run([*COMMAND, *options, str(killed)], check=True)
    left, right = (
        keras.saving.load_model(folder / "model.keras")
        for folder in (whole, killed)
    )
    for one, other in zip(weights(left), weights(right), strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_epoch_takes_negative_time_when_the_clock_is_set_back(monkeypatch):
    cost, logs = training.Cost(), {}
    cost.on_epoch_begin(0)
    monkeypatch.setattr("time.time", lambda: 0.0)
    cost.on_epoch_end(0, logs)
    assert 0 <= logs["wall_seconds"] < 60


def test_peak_memory_is_in_megabytes(monkeypatch):
    here = training.peak_memory_mb()
    assert 50 < here < 50_000
    monkeypatch.setattr(training.sys, "platform", "darwin")
    # macOS counts bytes where Linux counts kilobytes.
    assert training.peak_memory_mb() == pytest.approx(here / 1024, rel=0.1)
