"""Hamilton's equations, from separable and from joint energies."""

import numpy as np
import pytest
import tensorflow as tf

from hgn_tf.phase import (
    PhaseState,
    add_energy,
    force,
    is_separable,
    time_derivative,
    velocity,
)

MASS, STIFFNESS, GRAVITY = 0.7, 1.9, 3.0


class HangingChain:
    """Masses on springs between neighbours, in a quartic well; separable."""

    def kinetic(self, p):
        return tf.reduce_sum(p**2, axis=-1) / (2 * MASS)

    def potential(self, q):
        spring = 0.5 * STIFFNESS * (q[:, 1:] - q[:, :-1]) ** 2
        return tf.reduce_sum(spring, axis=-1) + tf.reduce_sum(q**4, axis=-1)

    def __call__(self, q, p):
        return self.kinetic(p) + self.potential(q)


def chain_as_one_function(q, p):
    return HangingChain()(q, p)


def position_dependent_mass(q, p):
    """Does not separate."""
    return tf.reduce_sum(0.5 * (1 + q**2) * p**2 / MASS + tf.cos(q), axis=-1)


HAMILTONIANS = {
    "separable": HangingChain(),
    "joint": chain_as_one_function,
    "not_separable": position_dependent_mass,
}


def make_state(batch=4, dof=3):
    rng = np.random.default_rng(0)
    return PhaseState(*map(tf.constant, rng.normal(size=(2, batch, dof))))


def central_difference(hamiltonian, state, direction, step=1e-5):
    """Change of H [batch] along a direction, a second."""
    ahead, behind = (
        hamiltonian(*(x + sign * step * dx for x, dx in zip(state, direction)))
        for sign in (1, -1)
    )
    return (ahead - behind) / (2 * step)


@pytest.mark.parametrize("name", HAMILTONIANS)
def test_energy_is_conserved_along_the_field(name):
    state = make_state()
    field = time_derivative(HAMILTONIANS[name], state)
    change = central_difference(HAMILTONIANS[name], state, field)
    # Central differences are off by step^2 times third derivatives.
    np.testing.assert_allclose(change, 0.0, atol=1e-7)


@pytest.mark.parametrize("name", HAMILTONIANS)
def test_field_matches_finite_differences(name):
    state, hamiltonian = make_state(), HAMILTONIANS[name]
    field = time_derivative(hamiltonian, state)
    for axis in range(3):
        unit = np.eye(3)[axis]
        dh_dq = central_difference(hamiltonian, state, (unit, 0 * unit))
        dh_dp = central_difference(hamiltonian, state, (0 * unit, unit))
        np.testing.assert_allclose(field.q[:, axis], dh_dp, atol=1e-7)
        np.testing.assert_allclose(field.p[:, axis], -dh_dq, atol=1e-7)


def test_weight_pulls_down_and_momentum_moves_along_itself():
    def falling(q, p):
        return tf.reduce_sum(p**2 / (2 * MASS) + MASS * GRAVITY * q, axis=-1)

    state = PhaseState(tf.constant([[2.0]]), tf.constant([[0.35]]))
    dq_dt, dp_dt = time_derivative(falling, state)
    np.testing.assert_allclose(dq_dt, [[0.5]], rtol=1e-6)  # float32
    np.testing.assert_allclose(dp_dt, [[-MASS * GRAVITY]], rtol=1e-6)


@pytest.mark.parametrize("name", HAMILTONIANS)
def test_force_and_velocity_are_the_halves_of_the_field(name):
    state = make_state()
    field = time_derivative(HAMILTONIANS[name], state)
    np.testing.assert_allclose(velocity(HAMILTONIANS[name], state), field.q)
    np.testing.assert_allclose(force(HAMILTONIANS[name], state), field.p)


def test_joint_form_has_the_field_of_the_separable_one():
    state = make_state()
    separable = time_derivative(HAMILTONIANS["separable"], state)
    joint = time_derivative(HAMILTONIANS["joint"], state)
    for ours, theirs in zip(separable, joint):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


class Still:
    """Its energy depends on neither q nor p."""

    def kinetic(self, p):
        return tf.zeros(len(p), p.dtype)

    potential = kinetic

    def __call__(self, q, p):
        return self.kinetic(p)


@pytest.mark.parametrize("hamiltonian", [Still(), lambda q, p: Still()(q, p)])
def test_energy_without_q_or_p_gives_zeros(hamiltonian):
    state = make_state()
    still = (time_derivative(hamiltonian, state).p, force(hamiltonian, state))
    still += (time_derivative(hamiltonian, state).q,)
    still += (velocity(hamiltonian, state),)
    for part in still:
        np.testing.assert_array_equal(part, np.zeros((4, 3)))


def test_free_particle_feels_no_force():
    def free(q, p):
        return tf.reduce_sum(p**2, axis=-1) / (2 * MASS)

    state = make_state()
    dq_dt, dp_dt = time_derivative(free, state)
    np.testing.assert_array_equal(dp_dt, np.zeros((4, 3)))
    np.testing.assert_allclose(dq_dt, state.p / MASS, rtol=1e-15)


def test_separable_needs_both_parts():
    class HalfSeparable:
        kinetic = HangingChain.kinetic

        def __call__(self, q, p):
            return HangingChain()(q, p)

    assert is_separable(HangingChain())
    assert not is_separable(HalfSeparable())
    assert not is_separable(chain_as_one_function)
    state = make_state()
    field = time_derivative(HalfSeparable(), state)
    np.testing.assert_allclose(field.p, force(HangingChain(), state))


def test_states_of_any_rank_keep_their_shape():
    rng = np.random.default_rng(0)
    state = PhaseState(*map(tf.constant, rng.normal(size=(2, 3, 4, 4, 2))))

    def oscillator(q, p):
        return tf.reduce_sum(p**2 / MASS + q**2, axis=(1, 2, 3)) / 2

    field = time_derivative(oscillator, state)
    np.testing.assert_allclose(field.q, state.p / MASS, rtol=1e-14)
    np.testing.assert_allclose(field.p, -state.q, rtol=1e-14)


@pytest.mark.parametrize("amount", [2.5, -0.2])
@pytest.mark.parametrize("hamiltonian", HAMILTONIANS.values(), ids=HAMILTONIANS)
def test_energy_is_added_to_every_state(hamiltonian, amount):
    state = make_state()
    raised = add_energy(hamiltonian, state, amount)
    gained = hamiltonian(*raised) - hamiltonian(*state)
    np.testing.assert_allclose(gained, amount, rtol=1e-9)


def test_energy_is_added_along_the_gradient():
    """Of |z|^2 / 2 the gradient is z: a state keeps its direction."""

    def hamiltonian(q, p):
        return tf.reduce_sum(q**2 + p**2, axis=(1, 2)) / 2

    state = PhaseState(*(tf.reshape(x, [2, 2, 3]) for x in make_state()))
    raised = add_energy(hamiltonian, state, 1.5)
    factor = tf.sqrt(1 + 1.5 / hamiltonian(*state))[:, None, None]
    for part, expected in zip(raised, state):
        np.testing.assert_allclose(part, factor * expected, rtol=1e-9)


def test_a_state_without_a_gradient_stays():
    rest = PhaseState(*2 * [tf.zeros([3, 2], tf.float64)])
    raised = add_energy(HangingChain(), rest, 1.0)
    np.testing.assert_array_equal(raised.q, rest.q)
    np.testing.assert_array_equal(raised.p, rest.p)


@pytest.mark.parametrize("amount", [np.nan, np.inf])
def test_no_energy_but_a_finite_one_is_added(amount):
    with pytest.raises(ValueError, match="`amount` must be a finite energy"):
        add_energy(HangingChain(), make_state(), amount)
