"""Claims of every integrator, on a non-linear system of mass other than 1."""

import functools

import keras
import numpy as np
import pytest
import scipy.integrate
import tensorflow as tf

from hgn_tf.integrators import (
    INTEGRATORS,
    compose,
    get_integrator,
    last_state,
    rollout,
)
from hgn_tf.networks import EnergyNet, SeparableHamiltonian
from hgn_tf.phase import PhaseState

MASS, LENGTH, GRAVITY, STIFFNESS = 0.7, 1.3, 3.0, 0.8
INERTIA = MASS * LENGTH**2
SYMPLECTIC = [name for name, each in INTEGRATORS.items() if each.symplectic]
COMPOSED = [name for name, each in INTEGRATORS.items() if each.lengths]
ANY_ENERGY = [name for name, each in INTEGRATORS.items() if each.any_energy]


class CoupledPendulums:
    """Two pendulums and a spring between them; counts its evaluations."""

    def __init__(self):
        self.kinetic_calls = self.potential_calls = 0

    def kinetic(self, p):
        self.kinetic_calls += 1
        return tf.reduce_sum(p**2, axis=-1) / (2 * INERTIA)

    def potential(self, q):
        self.potential_calls += 1
        weight = MASS * GRAVITY * LENGTH * (1 - tf.cos(q))
        spring = 0.5 * STIFFNESS * (q[:, 0] - q[:, 1]) ** 2
        return tf.reduce_sum(weight, axis=-1) + spring

    def __call__(self, q, p):
        return self.kinetic(p) + self.potential(q)


def joint_pendulums(q, p):
    """The same energy, given as one function."""
    return CoupledPendulums()(q, p)


FORMS = {"separable": CoupledPendulums(), "joint": joint_pendulums}


def inseparable(q, p):
    """(q^2 + 1)(p^2 + 1) / 2; Tao, Phys. Rev. E 94 (2016), section III."""
    return tf.reduce_sum((q**2 + 1) * (p**2 + 1), axis=-1) / 2


def make_state(batch=3):
    rng = np.random.default_rng(0)
    return PhaseState(*map(tf.constant, rng.normal(size=(2, batch, 2))))


def pendulums_by_hand(time, state):
    q, p = np.split(state, 2)
    spring = STIFFNESS * (q - q[::-1])
    weight = MASS * GRAVITY * LENGTH * np.sin(q)
    return np.concatenate([p / INERTIA, -weight - spring])


def inseparable_by_hand(time, state):
    q, p = np.split(state, 2)
    return np.concatenate([(q**2 + 1) * p, -q * (p**2 + 1)])


@functools.cache
def scipy_path(derivative, end, num_steps):
    """q and p [batch, num_steps + 1, 2] of `make_state`, right to 1e-11."""
    paths = []
    for start in np.concatenate(make_state(), axis=-1):
        solution = scipy.integrate.solve_ivp(
            derivative,
            (0.0, end),
            start,
            method="DOP853",
            rtol=1e-13,
            atol=1e-13,
            t_eval=np.linspace(0.0, end, num_steps + 1),
        )
        paths.append(solution.y.T)
    return np.split(np.stack(paths), 2, axis=-1)


def compiled_rollout(*args):
    """As `rollout`; a graph takes its many steps ten times as fast."""
    return tf.function(lambda: rollout(*args))()


def measured_order(name, hamiltonian, derivative, end=1.0, num_steps=32):
    """log2 of what halving dt does to the error at the end."""
    truth = scipy_path(derivative, end, num_steps)
    errors = []
    for steps in (num_steps, 2 * num_steps):
        path = compiled_rollout(
            hamiltonian, make_state(), end / steps, steps, name
        )
        errors.append(
            max(
                np.abs(ours[:, -1] - theirs[:, -1]).max()
                for ours, theirs in zip(path, truth)
            )
        )
    return np.log2(errors[0] / errors[1])


def jacobian(name, hamiltonian, dt, epsilon=1e-5):
    """d step / d (q, p) of one state by central differences, [4, 4]."""
    state = np.concatenate(make_state(1), axis=-1)
    shifts = epsilon * np.concatenate([np.eye(4), -np.eye(4)])
    q, p = map(tf.constant, np.split(state + shifts, 2, axis=-1))
    moved = INTEGRATORS[name].step(hamiltonian, PhaseState(q, p), dt)
    ahead, behind = np.split(np.concatenate(moved, axis=-1), 2)
    return (ahead - behind).T / (2 * epsilon)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", INTEGRATORS)
def test_order_is_as_claimed(name, form):
    order = measured_order(name, FORMS[form], pendulums_by_hand)
    assert order == pytest.approx(INTEGRATORS[name].order, abs=0.2)


def test_another_composition_has_its_order(monkeypatch):
    outer = 1 / (4 - 4 ** (1 / 3))
    lengths = (outer, outer, 1 - 4 * outer, outer, outer)
    suzuki = compose("suzuki4", lengths, 4, "Suzuki (1990), equation 20")
    assert suzuki.step.__name__ == "suzuki4" and "Suzuki" in suzuki.step.__doc__
    monkeypatch.setitem(INTEGRATORS, "suzuki4", suzuki)
    order = measured_order("suzuki4", CoupledPendulums(), pendulums_by_hand)
    assert order == pytest.approx(suzuki.order, abs=0.2)


def test_composition_that_is_no_step_of_dt_is_refused():
    with pytest.raises(ValueError, match="must add up to 1. Received.*0.9"):
        compose("short", (0.5, 0.4), 2, "nowhere")


@pytest.mark.parametrize("name", SYMPLECTIC)
def test_step_back_undoes_step(name):
    step, state = INTEGRATORS[name].step, make_state()
    there = step(CoupledPendulums(), state, 0.3)
    back = step(CoupledPendulums(), there, -0.3)
    for start, end in zip(state, back):
        np.testing.assert_allclose(end, start, atol=1e-14)  # rounding only


@pytest.mark.parametrize("name", SYMPLECTIC)
def test_rollout_back_returns_to_the_start(name):
    state = make_state()
    path = compiled_rollout(CoupledPendulums(), state, 0.125, 40, name)
    end = PhaseState(path.q[:, -1], path.p[:, -1])
    back = compiled_rollout(CoupledPendulums(), end, -0.125, 40, name)
    for ours, theirs in zip(back, path):
        # Rounding, grown along 5 s of motion.
        np.testing.assert_allclose(ours[:, ::-1], theirs, atol=1e-11)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_two_form_is_kept_by_the_symplectic_ones_alone(name):
    moved = jacobian(name, CoupledPendulums(), dt=0.3)
    omega = np.kron([[0, 1], [-1, 0]], np.eye(2))
    defect = np.abs(moved.T @ omega @ moved - omega).max()
    # Central differences are right to about 1e-10; rk4 misses by 1e-4.
    assert (defect < 1e-8) == INTEGRATORS[name].symplectic


@pytest.mark.parametrize("name", COMPOSED)
def test_explicit_splitting_is_of_first_order_on_an_inseparable_energy(name):
    order = measured_order(name, inseparable, inseparable_by_hand, 0.5, 64)
    assert order == pytest.approx(1.0, abs=0.2)
    volume = np.linalg.det(jacobian(name, inseparable, dt=0.1))
    assert abs(volume - 1) > 1e-4


def test_rk4_keeps_its_order_on_an_inseparable_energy():
    order = measured_order("rk4", inseparable, inseparable_by_hand, 0.5, 32)
    assert order == pytest.approx(4.0, abs=0.2)


@pytest.mark.parametrize("name", ANY_ENERGY)
def test_claims_for_any_energy_hold_on_an_inseparable_one(name):
    order = measured_order(name, inseparable, inseparable_by_hand, 0.5, 32)
    assert order == pytest.approx(INTEGRATORS[name].order, abs=0.2)
    moved = jacobian(name, inseparable, dt=0.1)
    omega = np.kron([[0, 1], [-1, 0]], np.eye(2))
    assert np.abs(moved.T @ omega @ moved - omega).max() < 1e-8
    step, state = INTEGRATORS[name].step, make_state()
    back = step(inseparable, step(inseparable, state, 0.1), -0.1)
    for ours, theirs in zip(back, state):
        np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("name", ANY_ENERGY)
def test_gradient_through_an_implicit_step(name):
    state = make_state(1)

    def end(q):
        moved = INTEGRATORS[name].step(inseparable, PhaseState(q, state.p), 0.1)
        return tf.reduce_sum(moved.q * moved.p)

    with tf.GradientTape() as tape:
        tape.watch(state.q)
        value = end(state.q)
    shift = 1e-5 * np.array([[1.0, 0.0]])
    slope = (end(state.q + shift) - end(state.q - shift)) / 2e-5
    found = tape.gradient(value, state.q)
    assert found[0, 0].numpy() == pytest.approx(slope.numpy(), rel=1e-6)


def test_a_state_that_is_lost_spoils_no_other():
    def steep(q, p):
        squares = q**2 / 2 + p**2 / 2 + 0.3 * q**2 * p**2
        return tf.reduce_sum(squares, axis=1)

    def follow(q, p):
        state = PhaseState(*(tf.constant(x, tf.float64) for x in (q, p)))
        return rollout(steep, state, 0.2, 20, "implicit_midpoint")

    alone = follow([[1.0]], [[0.5]])
    beside = follow([[1.0], [50.0], [np.nan]], [[0.5], [50.0], [0.0]])
    assert np.isnan(beside.q[2, -1])
    np.testing.assert_allclose(beside.q[0], alone.q[0], rtol=1e-9)


def test_arrays_are_states_too():
    start = PhaseState(np.ones((2, 1)), np.zeros((2, 1)))
    path = rollout(inseparable, start, 0.1, 3)
    assert path.q.shape == (2, 4, 1)
    end = last_state(inseparable, start, 0.1, 3)
    np.testing.assert_allclose(end.q, path.q[:, -1], rtol=1e-12)


@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", INTEGRATORS)
def test_rollout_is_the_repeated_step(name, form, unroll):
    state = make_state()
    path = rollout(FORMS[form], state, 0.2, 7, name, unroll=unroll)
    assert path.q.shape == path.p.shape == (3, 8, 2)
    for index in range(8):
        # Merged kicks add in another order: rounding.
        np.testing.assert_allclose(path.q[:, index], state.q, atol=1e-13)
        np.testing.assert_allclose(path.p[:, index], state.p, atol=1e-13)
        state = INTEGRATORS[name].step(FORMS[form], state, 0.2)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_loop_in_a_graph_equals_eager_unrolled_steps(name):
    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float64)] * 2)
    def looped(q, p):
        return rollout(CoupledPendulums(), PhaseState(q, p), 0.2, 7, name)

    state = make_state()
    unrolled = rollout(CoupledPendulums(), state, 0.2, 7, name, unroll=True)
    for ours, theirs in zip(looped(*state), unrolled):
        np.testing.assert_allclose(ours, theirs, atol=1e-13)


@pytest.mark.parametrize("unroll", [False, True])
@pytest.mark.parametrize("name", COMPOSED)
def test_merged_kicks_save_a_gradient_of_the_potential_a_step(name, unroll):
    energy, num_steps = CoupledPendulums(), 6
    rollout(energy, make_state(), 0.1, num_steps, name, unroll=unroll)
    stages = len(INTEGRATORS[name].lengths) * num_steps
    assert (energy.potential_calls, energy.kinetic_calls) == (
        stages + 1,
        stages,
    )


def test_leapfrog_rollout_costs_one_gradient_of_each_part_a_step():
    energy = CoupledPendulums()
    rollout(energy, make_state(), 0.1, 6, "leapfrog")
    assert (energy.potential_calls, energy.kinetic_calls) == (7, 6)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_negative_dt_is_the_motion_with_momenta_reversed(name):
    state = make_state()
    back = rollout(CoupledPendulums(), state, -0.1, 10, name)
    mirrored = PhaseState(state.q, -state.p)
    forth = rollout(CoupledPendulums(), mirrored, 0.1, 10, name)
    np.testing.assert_allclose(back.q, forth.q, atol=1e-13)
    np.testing.assert_allclose(back.p, -forth.p, atol=1e-13)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", INTEGRATORS)
def test_no_steps_give_the_start(name, form):
    state = make_state()
    path = rollout(FORMS[form], state, 0.1, 0, name)
    for ours, start in zip(path, state):
        np.testing.assert_array_equal(ours, np.asarray(start)[:, None])


def test_rollout_follows_scipy():
    path = compiled_rollout(
        CoupledPendulums(), make_state(), 0.05, 80, "yoshida4"
    )
    truth = scipy_path(pendulums_by_hand, 4.0, 80)
    for ours, theirs in zip(path, truth):
        # About dt^4 times the length of the path.
        np.testing.assert_allclose(ours, theirs, atol=1e-3)


@pytest.mark.parametrize("name", SYMPLECTIC)
def test_energy_stays_in_a_band(name):
    state, energy = make_state(1), joint_pendulums
    path = compiled_rollout(CoupledPendulums(), state, 0.1, 500, name)
    along = energy(path.q[0], path.p[0]).numpy()
    assert np.ptp(along[250:]) < 1.1 * np.ptp(along[:250])
    assert np.ptp(along) < 0.02 * along[0]


@pytest.mark.parametrize("name", INTEGRATORS)
def test_rollout_of_pictures_moves_each_place_alone(name):
    """States [batch, height, width, channels] of independent oscillators."""

    def oscillators(q, p):
        return tf.reduce_sum(p**2 / MASS + q**2, axis=(1, 2, 3)) / 2

    rng = np.random.default_rng(0)
    state = PhaseState(*map(tf.constant, rng.normal(size=(2, 2, 3, 4, 2))))
    path = rollout(oscillators, state, 0.1, 5, name)
    assert path.q.shape == (2, 6, 3, 4, 2)
    alone = PhaseState(*(x[:, 1:2, 2:3, :1] for x in state))
    path_alone = rollout(oscillators, alone, 0.1, 5, name)
    ours = path.q[:, :, 1:2, 2:3, :1]
    np.testing.assert_allclose(ours, path_alone.q, atol=1e-14)


def mlp_energy():
    keras.utils.set_random_seed(0)
    energy = SeparableHamiltonian(
        kinetic=EnergyNet((8,), convolutional=False, quadratic=True),
        potential=EnergyNet((8,), convolutional=False),
    )
    energy.build((None, 2), (None, 2))
    return energy


@pytest.mark.parametrize(
    "name",
    [
        # A loop in each unrolled step takes seconds to trace.
        pytest.param(name, marks=pytest.mark.slow if each.any_energy else ())
        for name, each in INTEGRATORS.items()
    ],
)
def test_gradient_through_a_looped_rollout_equals_unrolled(name):
    energy = mlp_energy()
    state = PhaseState(*(tf.cast(x, tf.float32) for x in make_state()))

    @tf.function
    def gradients(unroll):
        with tf.GradientTape() as tape:
            path = rollout(energy, state, 0.1, 3, name, unroll=unroll)
            loss = tf.reduce_sum(path.q[:, -1] ** 2)
        return tape.gradient(loss, energy.trainable_variables)

    gradients(False)  # A broken loop fails at the second call, not the first.
    pairs = zip(gradients(False), gradients(True))
    for index, (looped, unrolled) in enumerate(pairs):
        assert np.abs(unrolled).max() > 0, index
        # float32, sums in another order.
        np.testing.assert_allclose(looped, unrolled, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dt", [0, 0.0, float("nan"), float("inf")])
def test_dt_that_goes_nowhere_is_refused(dt):
    with pytest.raises(ValueError, match="`dt` must be a finite number.*other"):
        rollout(CoupledPendulums(), make_state(), dt, 3)


def test_unknown_integrator_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="one of.*'leapfrog'.*'leapforg'"):
        rollout(CoupledPendulums(), make_state(), 0.1, 3, "leapforg")
    with pytest.raises(ValueError, match="`integrator` must be one of"):
        get_integrator("heun")


def test_negative_number_of_steps_is_refused():
    with pytest.raises(
        ValueError, match="`num_steps` must be a whole number of at least 0.*-1"
    ):
        rollout(CoupledPendulums(), make_state(), 0.1, -1)
    with pytest.raises(ValueError, match="of at least 0. Received: -1"):
        last_state(CoupledPendulums(), make_state(), 0.1, tf.constant(-1))
    whole = rollout(CoupledPendulums(), make_state(), 0.1, tf.constant(2))
    assert whole.q.shape[1] == 3


def test_halves_of_different_shape_are_refused():
    state = PhaseState(tf.zeros([3, 2]), tf.zeros([3, 1]))
    with pytest.raises(ValueError, match="equal shapes.*3, 2.*3, 1"):
        rollout(CoupledPendulums(), state, 0.1, 3)
