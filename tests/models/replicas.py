"""What `test_replicas` runs in a process of its own, on two virtual devices."""

import sys

import keras
import numpy as np
import tensorflow as tf

from hgn_tf import HGN, PixelHNN, losses, networks
from hgn_tf.models.nhf import NHF, nhf_networks

ROWS, FRAMES, SIZE = 5, 4, 8
FRAME = (SIZE, SIZE, 1)


def hgn():
    parts = networks.flat_networks(
        SIZE,
        channels=1,
        latent_size=2,
        encoder_filters=(4,),
        state_units=(8,),
        potential_units=(8,),
        decoder_units=(8,),
    )
    return HGN(
        **parts,
        num_inference_frames=3,
        stochastic=False,
        geco=losses.Geco(0.5),
    )


def pixel_hnn():
    return PixelHNN(**networks.dense_pair_networks((2, *FRAME), 2, (8,)))


def flow():
    return NHF(**nhf_networks(num_hamiltonians=1, units=(8,)))


MODELS = {"hgn": hgn, "pixel_hnn": pixel_hnn, "nhf": flow}


def make_data(name):
    rng = np.random.default_rng(0)
    if name == "nhf":
        return rng.normal(size=(ROWS, 2)).astype(np.float32)
    return rng.random((ROWS, FRAMES, *FRAME)).astype(np.float32)


def make(name, optimizer=None):
    keras.utils.set_random_seed(0)
    model = MODELS[name]()
    model.compile(optimizer or keras.optimizers.SGD(1e-2))
    return model


def numbers(variables):
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def check_smaller_batches(strategy, name):
    """Of the last batch of one row one replica has none.

    The model is made and compiled in the scope, and built by `fit` outside.
    """
    data = make_data(name)
    with strategy.scope():
        model = make(name)
    batches = tf.data.Dataset.from_tensor_slices(data).batch(4)
    logs = model.fit(batches, epochs=2, verbose=0).history
    assert logs["dropped_steps"] == [0, 0], logs
    assert all(np.isfinite(values).all() for values in logs.values()), logs
    scores = model.evaluate(batches, verbose=0)
    assert np.isfinite(scores).all(), scores
    alone = make(name)
    alone.fit(batches, epochs=2, verbose=0)
    if name == "hgn":
        np.testing.assert_allclose(
            *(numbers([m.geco.log_multiplier]) for m in (model, alone)),
            atol=1e-3,
        )
    if name != "nhf":  # Its replicas draw on their own.
        both = zip(*(numbers(m.part_weights) for m in (model, alone)))
        for ours, theirs in both:
            np.testing.assert_allclose(ours, theirs, atol=1e-5)
    if name != "nhf":
        alone.set_weights(model.get_weights())
        expected = alone.evaluate(batches, verbose=0)
        np.testing.assert_allclose(scores, expected, rtol=1e-4)


def check_scaled_losses(strategy):
    data = make_data("hgn")[:4]
    inner = keras.optimizers.SGD(1e-2)
    with strategy.scope():
        model = make("hgn", keras.optimizers.LossScaleOptimizer(inner, 2.0**12))
    batches = tf.data.Dataset.from_tensor_slices(data).batch(4)
    logs = model.fit(batches, verbose=0).history
    assert logs["overflowed_steps"] == logs["dropped_steps"] == [0], logs
    alone = make("hgn")
    alone.fit(batches, verbose=0)
    for ours, theirs in zip(*(numbers(m.part_weights) for m in (model, alone))):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    (scale,) = numbers([model.optimizer.dynamic_scale])
    # Far off, the gradients are above 2: float32 does not hold 6e38.
    last = model.decoder.weights[-1]
    last.assign_add(1e3 * np.ones(last.shape))
    model.optimizer.dynamic_scale.assign(3e38)
    logs = model.fit(batches, verbose=0).history
    assert logs["overflowed_steps"] == [1], logs
    assert logs["dropped_steps"] == [0], logs
    (lowered,) = numbers([model.optimizer.dynamic_scale])
    assert np.isclose(lowered, 1.5e38), lowered


def main():
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    for name in sys.argv[1:]:
        if name == "scaled":
            check_scaled_losses(strategy)
        else:
            check_smaller_batches(strategy, name)
        print(name, "right", flush=True)


if __name__ == "__main__":
    main()
