"""What Keras asks of a layer and of a model, asked of every one of ours."""

import copy
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import hgn_tf
from hgn_tf import losses, networks, optimizers
from hgn_tf.models.nhf import NHF, NormalizingFlow, nhf_networks
from hgn_tf.models.nhf.energies import BumpEnergy
from hgn_tf.models.nhf.leapfrog import StackedHamiltonian
from hgn_tf.models.nhf.posteriors import FlowMomentum, GaussianMomentum
from hgn_tf.networks.layers import MaskedDense

PICTURE, FLAT, VIDEO = (4, 4, 2), (4,), (3, 8, 8, 1)
VECTORS = (5,)


def energy(**kwargs):
    return networks.EnergyNet((6,), convolutional=False, **kwargs)


# Callable (dtype=...) -> layer, and the shapes of its inputs.
LAYERS = {
    "Encoder": (
        lambda **kw: networks.Encoder((4, 4), (2, 1), (4, 4, 2), **kw),
        [VIDEO],
    ),
    "KeypointNet": (
        lambda **kw: networks.KeypointNet((4, 3), (2, 1), FLAT, **kw),
        [(8, 8, 1)],
    ),
    "PositionNet": (
        lambda **kw: networks.PositionNet((4,), (2,), FLAT, **kw),
        [(8, 8, 1)],
    ),
    "StateNet": (lambda **kw: networks.StateNet((6,), FLAT, **kw), [(8,)]),
    "UpsampleConv2D": (
        lambda **kw: networks.UpsampleConv2D(3, **kw),
        [PICTURE],
    ),
    "Decoder": (
        lambda **kw: networks.Decoder((4,), seed_shape=(2, 2, 3), **kw),
        [FLAT],
    ),
    "DenseDecoder": (
        lambda **kw: networks.DenseDecoder((6,), (4, 4, 1), **kw),
        [FLAT],
    ),
    "TemplateDecoder": (
        lambda **kw: networks.TemplateDecoder(2, (4, 4, 1), **kw),
        [(4,)],
    ),
    "PairPotential": (
        lambda **kw: networks.PairPotential(energy(**kw), 2, **kw),
        [(4,)],
    ),
    "EnergyNet": (energy, [FLAT]),
    "QuadraticEnergy": (networks.QuadraticEnergy, [FLAT]),
    "SeparableHamiltonian": (
        lambda **kw: networks.SeparableHamiltonian(
            energy(**kw), energy(**kw), **kw
        ),
        [FLAT, FLAT],
    ),
    "JointHamiltonian": (
        lambda **kw: networks.JointHamiltonian(energy(**kw), **kw),
        [FLAT, FLAT],
    ),
    "MLP": (lambda **kw: networks.MLP((6,), (2, 3), **kw), [FLAT]),
    "MaskedDense": (
        lambda **kw: MaskedDense([0, 1, 2, 3], [1, 2, 3], **kw),
        [FLAT],
    ),
    "PairEncoder": (
        lambda **kw: networks.PairEncoder(
            networks.Encoder((4,), (2,), (4,), **kw), **kw
        ),
        [(2, 8, 8, 1)],
    ),
    "PairDecoder": (
        lambda **kw: networks.PairDecoder(
            networks.Decoder((4,), channels=2, seed_shape=(2, 2, 3), **kw), **kw
        ),
        [FLAT],
    ),
    "GaussianMomentum": (
        lambda **kw: GaussianMomentum((6,), **kw),
        [FLAT, "noise"],
    ),
    "FlowMomentum": (
        lambda **kw: FlowMomentum((6,), bins=4, **kw),
        [FLAT, "noise"],
    ),
    "BumpEnergy": (lambda **kw: BumpEnergy(5, **kw), [FLAT]),
}
# Of states and energies, which are never in half precision.
WHOLE = {
    "StateNet",
    "EnergyNet",
    "PairPotential",
    "QuadraticEnergy",
    "SeparableHamiltonian",
    "JointHamiltonian",
    "BumpEnergy",
}
# The posteriors of NHF, which refuses half precision.
OF_DENSITIES = {"GaussianMomentum", "FlowMomentum"}
# They are called by their models alone.
WITHOUT_A_CALL = {"Geco", "Muon", "PaperAdam", "StackedHamiltonian"}


def flat_hgn(**kwargs):
    parts = networks.flat_networks(
        8,
        channels=1,
        latent_size=2,
        encoder_filters=(4,),
        state_units=(8,),
        potential_units=(8,),
        decoder_units=(8,),
    )
    return hgn_tf.HGN(**parts, num_inference_frames=3, **kwargs)


def small_nhf():
    parts = nhf_networks(num_hamiltonians=1, units=(4,), posterior_units=(4,))
    return NHF(**parts, kl_tolerance=1.0)


MODELS = {
    "HGN": (lambda: flat_hgn(geco=losses.Geco(0.5)), VIDEO),
    "PixelHNN": (
        lambda: hgn_tf.PixelHNN(**networks.dense_pair_networks(VECTORS, 2)),
        VECTORS,
    ),
    "HNN": (lambda: hgn_tf.HNN((6,), separable=True), FLAT),
    "DerivativeNet": (lambda: hgn_tf.DerivativeNet((6,)), FLAT),
    "NHF": (small_nhf, (2,)),
    "NormalizingFlow": (lambda: NormalizingFlow("maf", 2, (6,)), (2,)),
}


def make_inputs(shapes, dtype="float32"):
    rng = np.random.default_rng(0)
    shapes = [(2, 3, *FLAT) if x == "noise" else (3, *x) for x in shapes]
    return [tf.constant(rng.normal(size=shape), dtype) for shape in shapes]


def test_every_class_that_can_be_saved_is_asked():
    ours = keras.saving.get_custom_objects()
    # Not what other tests of this process register.
    names = {
        key.split(">")[1]
        for key, made in ours.items()
        if key.startswith("hgn_tf>") and made.__module__.startswith("hgn_tf.")
    }
    # The second name of MLP.
    assert names - {"DenseMap"} == {*LAYERS, *WITHOUT_A_CALL, *MODELS}


def assert_config_is_whole(thing):
    """As JSON, and back, and again."""
    text = json.dumps(keras.saving.serialize_keras_object(thing))
    again = keras.saving.deserialize_keras_object(json.loads(text))
    assert type(again) is type(thing)
    written = json.dumps(keras.saving.serialize_keras_object(again))
    assert json.loads(written) | {"build_config": 0} == json.loads(text) | {
        "build_config": 0
    }
    return again


@pytest.mark.parametrize("name", [*LAYERS, *sorted(WITHOUT_A_CALL)])
def test_configuration_of_a_layer_is_whole(name):
    others = {
        "Geco": lambda: losses.Geco(0.5, rate=0.1),
        "Muon": lambda: optimizers.Muon(0.01, momentum=0.9, rms=0.3),
        "PaperAdam": lambda: optimizers.PaperAdam(0.01, epsilon=1e-6),
        "StackedHamiltonian": lambda: StackedHamiltonian(
            networks.SeparableHamiltonian(energy(), energy()), 3
        ),
    }
    assert_config_is_whole(
        others[name]() if name in others else LAYERS[name][0]()
    )


@pytest.mark.parametrize("name", LAYERS)
def test_build_makes_what_a_call_makes(name):
    make, shapes = LAYERS[name]
    called, built = make(), make()
    inputs = make_inputs(shapes)
    called(*inputs)
    built.build(*((None, *x.shape[1:]) for x in inputs))
    shapes = [
        [(w.path.split("/")[-1], tuple(w.shape)) for w in layer.weights]
        for layer in (called, built)
    ]
    assert shapes[0] == shapes[1]
    assert called.built and built.built


@pytest.mark.parametrize("dtype", ["float32", "float64", "mixed_float16"])
@pytest.mark.parametrize("name", LAYERS)
def test_precision_of_a_layer_is_what_it_says(name, dtype):
    if name in OF_DENSITIES and dtype == "mixed_float16":
        return
    make, shapes = LAYERS[name]
    layer, inputs = make(dtype=dtype), make_inputs(shapes)
    outputs = tf.nest.flatten(layer(*inputs))
    kept = "float64" if dtype == "float64" else "float32"
    assert {weight.dtype for weight in layer.weights} <= {kept}
    assert layer.compute_dtype == (
        "float16" if dtype[0] == "m" and name not in WHOLE else kept
    )
    for output in outputs:
        assert output.dtype.name in {kept, layer.compute_dtype}
        assert np.isfinite(output).all()
    if name not in OF_DENSITIES:
        symbols = [
            keras.KerasTensor((None, *x.shape[1:]), layer.compute_dtype)
            for x in inputs
        ]
        said = tf.nest.flatten(layer.compute_output_spec(*symbols))
        for output, spec in zip(outputs, said):
            assert output.dtype.name == spec.dtype
            assert tuple(output.shape[1:]) == tuple(spec.shape[1:])


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_reach_every_weight(name):
    make, shapes = LAYERS[name]
    layer = make()
    inputs = make_inputs(shapes)
    layer(*inputs)
    rng = np.random.default_rng(1)
    for weight in layer.weights:  # A grey start has gradients of 0.
        weight.assign_add(0.1 * rng.normal(size=weight.shape))
    with tf.GradientTape() as tape:
        outputs = tf.nest.flatten(layer(*inputs))
        total = sum(tf.reduce_sum(tf.square(output)) for output in outputs)
    weights = layer.trainable_weights
    if name == "PairEncoder":  # It leaves out the spread of the posterior.
        weights = weights[:-2]
    found = tape.gradient(total, [weight.value for weight in weights])
    for weight, gradient in zip(weights, found):
        assert gradient is not None, weight.path
        assert np.isfinite(gradient).all() and np.any(gradient), weight.path


@pytest.fixture(params=MODELS)
def model(request, seed):
    make, shape = MODELS[request.param]
    model = make()
    model.build((None, *shape))
    return model


def rebuilt(model):
    again = type(model).from_config(model.get_config())
    again.build_from_config(model.get_build_config())
    return again


def assert_weights(model, other, equal=True):
    ours, theirs = model.get_weights(), other.get_weights()
    assert [x.shape for x in ours] == [x.shape for x in theirs]
    same = all(map(np.array_equal, ours, theirs))
    assert same == equal
    assert not {id(w) for w in model.weights} & {id(w) for w in other.weights}


def test_copies_of_a_model_are_whole_and_apart(model, tmp_path):
    again = assert_config_is_whole(model)
    assert not {*map(id, model._flatten_layers())} & {
        *map(id, again._flatten_layers())
    }
    assert_weights(model, copy.deepcopy(model))
    fresh = rebuilt(model)
    assert_weights(model, fresh, equal=False)
    assert_weights(model, keras.models.clone_model(model), equal=False)
    model.save_weights(tmp_path / "w.weights.h5")
    fresh.load_weights(tmp_path / "w.weights.h5")
    assert_weights(model, fresh)


@pytest.mark.filterwarnings("error:.*compile:UserWarning")
def test_a_loaded_model_is_compiled_as_it_was(model, tmp_path):
    field = isinstance(model, hgn_tf.models.hnn.StateField)
    inner = keras.optimizers.Adam(0.125, clipnorm=2.0)
    optimizer = keras.optimizers.LossScaleOptimizer(inner, 8.0)
    model.compile(optimizer, "mse" if field else None, run_eagerly=True)
    optimizer.build(model.trainable_variables)
    optimizer.dynamic_scale.assign(4.0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.compiled and loaded.optimizer.built
    assert loaded.get_compile_config() == model.get_compile_config()
    assert len(loaded.optimizer.variables) == len(optimizer.variables)
    assert float(loaded.optimizer.dynamic_scale) == 4.0


def test_formats_that_would_lose_a_model_are_refused(model, tmp_path):
    for name in ("model.h5", "model.hdf5"):
        with pytest.raises(ValueError, match=rf"end in '.keras'.*{name}"):
            model.save(tmp_path / name)
    assert not [*tmp_path.iterdir()]
    with pytest.raises(ValueError, match="cannot be quantized.*'int8'"):
        model.quantize("int8")


class Stop(keras.callbacks.Callback):
    """An interruption at the end of the first epoch."""

    def on_epoch_end(self, epoch, logs=None):
        raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["HGN", "PixelHNN", "NHF"])
def test_backup_and_restore_gives_the_very_run(name, tmp_path):
    """With what Adam and a scaled loss remember."""
    (make, shape), rng = MODELS[name], np.random.default_rng(0)
    shape = (4, *VIDEO[1:]) if name == "HGN" else shape
    x = rng.random((4, *shape)).astype(np.float32)
    y = x if name == "PixelHNN" else None

    def train(seed, epochs, *callbacks):
        keras.utils.set_random_seed(seed)
        model = make()
        model.build((None, *shape))
        inner = keras.optimizers.Adam(1e-2)
        model.compile(
            keras.optimizers.LossScaleOptimizer(inner), run_eagerly=True
        )
        try:
            model.fit(
                x,
                y,
                batch_size=2,
                shuffle=False,
                epochs=epochs,
                verbose=0,
                callbacks=callbacks,
            )
        except KeyboardInterrupt:
            pass
        return model

    backup = keras.callbacks.BackupAndRestore(tmp_path / "backup")
    train(0, 2, backup, Stop())
    # Of another seed: all that counts comes from the backup.
    resumed, whole = train(1, 2, backup), train(0, 2)
    assert_weights(resumed, whole)
    for ours, theirs in zip(
        resumed.optimizer.variables, whole.optimizer.variables
    ):
        np.testing.assert_array_equal(ours, theirs)
