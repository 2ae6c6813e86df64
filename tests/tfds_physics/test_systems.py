"""The systems against closed forms, scipy and finite differences."""

import dataclasses

import numpy as np
import pytest
from scipy import integrate

from tfds_physics.systems import (
    SYSTEMS,
    DoublePendulum,
    MassSpring,
    NBody,
    Pendulum,
    System,
)

TIMES = 0.125 * np.arange(30)
# None of these has unit parameters only, which would hide a factor.
UNUSUAL = {
    "mass_spring": MassSpring(mass=0.7, stiffness=3.1),
    "pendulum": Pendulum(mass=0.7, length=1.3, gravity=9.81),
    "double_pendulum": DoublePendulum(
        mass_1=0.4, mass_2=0.9, length_1=0.8, length_2=1.2, gravity=9.81
    ),
    "four_body": NBody(
        num_bodies=4, mass=1.7, gravity=0.6, start_radius=(1, 2), noise=0
    ),
}
ALL = SYSTEMS | {f"unusual_{name}": each for name, each in UNUSUAL.items()}


@pytest.fixture(params=ALL)
def system(request) -> System:
    return ALL[request.param]


def draw(system: System, count: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    states = [system.sample_state(rng) for _ in range(count)]
    return (np.stack(each) for each in zip(*states, strict=True))


def test_gradient_matches_central_difference(system):
    q, p = draw(system, 20)
    small = 1e-5  # truncation 1e-10 and rounding 1e-11: under 1e-7 together
    for place, exact in enumerate(system.gradient(q, p)):
        for component in range(system.dof):
            ends = []
            for sign in (1, -1):
                moved = [q.copy(), p.copy()]
                moved[place][:, component] += sign * small
                ends.append(system.hamiltonian(*moved))
            slope = (ends[0] - ends[1]) / (2 * small)
            np.testing.assert_allclose(
                exact[:, component], slope, rtol=1e-7, atol=1e-7
            )


def test_simulate_conserves_energy(system):
    q0, p0 = draw(system, 64)
    energy = system.hamiltonian(*system.simulate(q0, p0, TIMES))
    start = np.abs(energy[:, 0])
    assert start.min() > 1e-3  # so that a relative drift means something
    drift = np.abs(energy - energy[:, :1]).max(axis=1) / start
    assert drift.max() < 1e-9  # promised: 1e-6


def test_energy_survives_a_close_encounter():
    # Two of three bodies fall at each other and pass at about 0.001.
    bodies = NBody(num_bodies=3, start_radius=(1, 1), noise=0)
    q0 = np.array([[-0.5, 0, 0.5, 0, 0, 3.0]])
    p0 = np.array([[0, 0.02, 0, -0.02, 0.1, 0]])
    q, p = bodies.simulate(q0, p0, 0.01 * np.arange(200))
    distance = np.hypot(q[0, :, 2] - q[0, :, 0], q[0, :, 3] - q[0, :, 1])
    assert distance.min() < 0.05
    energy = bodies.hamiltonian(q, p)[0]
    assert np.abs(energy / energy[0] - 1).max() < 1e-6


def test_simulate_agrees_with_scipy(system):
    q0, p0 = draw(system, 3)
    q, p = system.simulate(q0, p0, TIMES)

    def field(_, state):
        dH_dq, dH_dp = system.gradient(*np.split(state, 2))
        return np.concatenate([dH_dp, -dH_dq])

    for row in range(3):
        start = np.concatenate([q0[row], p0[row]])
        solved = integrate.solve_ivp(
            field,
            (0, TIMES[-1]),
            start,
            method="DOP853",
            t_eval=TIMES,
            rtol=1e-12,
            atol=1e-12,
        )
        ours = np.concatenate([q[row], p[row]], axis=1)
        # Both err by 1e-12 a step; chaos multiplies that by up to 1e4 here,
        # and scipy interpolates between its steps.
        np.testing.assert_allclose(ours, solved.y.T, atol=1e-7)


def test_mass_spring_is_a_harmonic_oscillator():
    spring = MassSpring(mass=0.7, stiffness=3.1)
    q, p = spring.simulate(np.array([[0.8]]), np.array([[-0.3]]), TIMES)
    rate = np.sqrt(3.1 / 0.7)
    cos, sin = np.cos(rate * TIMES), np.sin(rate * TIMES)
    expected_q = 0.8 * cos - 0.3 / (0.7 * rate) * sin
    expected_p = -0.3 * cos - 0.8 * 0.7 * rate * sin
    np.testing.assert_allclose(q[0, :, 0], expected_q, atol=1e-11)
    np.testing.assert_allclose(p[0, :, 0], expected_p, atol=1e-11)


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_small_pendulum_swings_at_its_frequency(factor):
    pendulum = Pendulum(
        mass=0.7, length=1.3, gravity=9.81, potential_factor=factor
    )
    angle = 1e-4
    q, _ = pendulum.simulate(np.array([[angle]]), np.array([[0.0]]), TIMES)
    expected = angle * np.cos(np.sqrt(factor * 9.81 / 1.3) * TIMES)
    # The anharmonic phase is rate * time * angle^2 / 16, about 1e-8.
    np.testing.assert_allclose(q[0, :, 0], expected, atol=1e-7 * angle)


def test_two_bodies_follow_a_kepler_ellipse():
    mass, gravity, apart, eccentricity = 1.7, 0.6, 1.5, 0.4
    bodies = NBody(
        num_bodies=2,
        mass=mass,
        gravity=gravity,
        start_radius=(1, 1),
        noise=0,
    )
    # From the nearest point, at distance `apart`, in relative coordinates.
    pull = 2 * gravity * mass
    axis = apart / (1 - eccentricity)
    speed = np.sqrt(pull * (1 + eccentricity) / apart)
    q0 = np.array([[-apart / 2, 0, apart / 2, 0]])
    p0 = np.array([[0, -speed / 2, 0, speed / 2]]) * mass
    period = 2 * np.pi * np.sqrt(axis**3 / pull)
    times = period * np.array([0, 0.1, 0.35, 0.5, 0.8, 1.0])
    q, _ = bodies.simulate(q0, p0, times)
    mean_anomaly = 2 * np.pi * times / period
    anomaly = mean_anomaly.copy()
    for _ in range(100):  # Kepler's equation E = M + e sin E
        anomaly = mean_anomaly + eccentricity * np.sin(anomaly)
    x = axis * (np.cos(anomaly) - eccentricity)
    y = axis * np.sqrt(1 - eccentricity**2) * np.sin(anomaly)
    relative = q[0, :, 2:] - q[0, :, :2]
    np.testing.assert_allclose(relative, np.stack([x, y], -1), atol=1e-9)


def test_simulate_is_reversible_and_takes_any_spacing(system):
    q0, p0 = draw(system, 4)
    uneven = np.array([0.0, 0.01, 0.3, 0.31, 1.7, 2.0])
    q, p = system.simulate(q0, p0, uneven)
    back_q, back_p = system.simulate(q[:, -1], p[:, -1], uneven[::-1])
    np.testing.assert_allclose(back_q[:, ::-1], q, atol=1e-8)
    np.testing.assert_allclose(back_p[:, ::-1], p, atol=1e-8)
    before, _ = system.simulate(q0, p0, [0.0, -0.4])
    mirrored, _ = system.simulate(q0, -p0, [0.0, 0.4])
    np.testing.assert_allclose(before, mirrored, atol=1e-9)


def test_trajectory_is_the_same_alone_and_in_a_batch(system):
    q0, p0 = draw(system, 37)
    q, p = system.simulate(q0, p0, TIMES)
    for rows in (slice(0, 1), slice(5, 8), slice(20, 37)):
        alone_q, alone_p = system.simulate(q0[rows], p0[rows], TIMES)
        np.testing.assert_array_equal(alone_q, q[rows])
        np.testing.assert_array_equal(alone_p, p[rows])
        for batched, alone in zip(
            system.gradient(q, p),
            system.gradient(q[rows], p[rows]),
            strict=True,
        ):
            np.testing.assert_array_equal(batched[rows], alone)


def test_state_at_rest_stays():
    for name in ("mass_spring", "pendulum", "double_pendulum"):
        rest = np.zeros((1, SYSTEMS[name].dof))
        q, p = SYSTEMS[name].simulate(rest, rest, TIMES)
        assert not q.any() and not p.any()


@pytest.mark.parametrize("name", ["mass_spring", "pendulum", "double_pendulum"])
def test_starts_are_uniform_on_circles(name):
    system = SYSTEMS[name]
    q, p = draw(system, 4000)
    radius, angle = np.hypot(q, p), np.arctan2(p, q)
    low, high = system.start_radius
    assert low <= radius.min() and radius.max() <= high
    middle, spread = (low + high) / 2, (high - low) / np.sqrt(12)
    # Means of 4000 draws: within 4 standard errors.
    assert abs(radius.mean() - middle) < 4 * spread / np.sqrt(4000)
    counts, _ = np.histogram(angle[:, 0], bins=16, range=(-np.pi, np.pi))
    # Chi squared of 15 degrees of freedom passes 44 once in 10,000 times.
    assert ((counts - 250) ** 2 / 250).sum() < 44


@pytest.mark.parametrize("num_bodies", [2, 3])
def test_bodies_start_near_circular_orbits_all_round(num_bodies):
    system = SYSTEMS[{2: "two_body", 3: "three_body"}[num_bodies]]
    q, p = draw(system, 2000)
    q, p = (each.reshape(-1, num_bodies, 2) for each in (q, p))
    radius = np.linalg.norm(q, axis=-1)
    np.testing.assert_allclose(radius, radius[:, :1].repeat(num_bodies, 1))
    low, high = system.start_radius
    assert low <= radius.min() and radius.max() <= high
    np.testing.assert_allclose(q.sum(axis=1), 0, atol=1e-12)
    # Newton: 1 / (2 r)^2 for two; two pulls 1 / (3 r^2) at 30 degrees.
    pull = {2: 1 / 4, 3: 1 / np.sqrt(3)}[num_bodies] / radius**2
    ratio = np.linalg.norm(p, axis=-1) / np.sqrt(pull * radius)
    spread = {2: 0.05, 3: 0.13}[num_bodies]
    assert abs(ratio.mean() - 1) < 0.01 and ratio.std() < spread * 1.1
    turn = np.arctan2(q[:, 0, 1], q[:, 0, 0])
    counts, _ = np.histogram(turn, bins=16, range=(-np.pi, np.pi))
    assert ((counts - 125) ** 2 / 125).sum() < 44


def test_circular_orbit_stays_a_circle():
    ring = NBody(num_bodies=5, start_radius=(1.2, 1.2), noise=0, mass=0.8)
    angles = 2 * np.pi * np.arange(5) / 5
    speed = ring._circular_speed(1.2)
    q0 = 1.2 * np.stack([np.cos(angles), np.sin(angles)], -1)
    p0 = 0.8 * speed * np.stack([-np.sin(angles), np.cos(angles)], -1)
    q, _ = ring.simulate(q0.reshape(1, 10), p0.reshape(1, 10), TIMES)
    radius = np.linalg.norm(ring.positions(q), axis=-1)
    np.testing.assert_allclose(radius, 1.2, atol=1e-9)


def test_pendulums_hang_downwards():
    for name in ("pendulum", "double_pendulum"):
        system = SYSTEMS[name]
        places = system.positions(np.zeros(system.dof))
        expected = -np.arange(1.0, system.dof + 1)
        np.testing.assert_array_equal(places[:, 0], 0)
        np.testing.assert_array_equal(places[:, 1], expected)
    np.testing.assert_allclose(
        Pendulum(length=2.0).positions(np.array([np.pi / 2])),
        [[2.0, 0.0]],
        atol=1e-15,
    )


def test_bodies_look_as_they_should(system):
    count = len(system.masses)
    assert system.positions(np.ones((4, 3, system.dof))).shape == (
        4,
        3,
        count,
        2,
    )
    assert system.colors.shape == (count, 3)
    np.testing.assert_array_equal(system.colors[0], [1, 0, 0])
    np.testing.assert_allclose(np.pi * system.radii**2, system.masses)
    if count == 2:
        np.testing.assert_array_equal(system.colors[1], [0, 1, 1])
    if count == 3:
        np.testing.assert_array_equal(system.colors, np.eye(3))


def test_parameters_must_be_positive(system):
    for name in system.parameters:
        for bad in (0, -1, np.nan, np.inf):
            with pytest.raises(ValueError, match=f"`{name}` must be"):
                dataclasses.replace(system, **{name: bad})


@pytest.mark.parametrize(
    "change, rule",
    [
        ({"noise": -0.1}, "`noise` must be"),
        ({"half_width": 0.0}, "`half_width` must be positive"),
        ({"start_radius": (2.0, 1.0)}, "`start_radius` must be"),
    ],
)
def test_look_and_start_are_checked(system, change, rule):
    with pytest.raises(ValueError, match=rule):
        dataclasses.replace(system, **change)


def test_bodies_are_counted_and_apart():
    with pytest.raises(ValueError, match="`num_bodies` must be"):
        NBody(num_bodies=1, start_radius=(1, 2), noise=0)
    with pytest.raises(ValueError, match="`start_radius` of bodies"):
        NBody(num_bodies=2, start_radius=(0, 2), noise=0)


@pytest.mark.parametrize(
    "q0, times, rule",
    [
        ([0.1], TIMES, "must both be of shape"),
        ([[0.1, 0.2]], TIMES, "must both be of shape"),
        ([[np.nan]], TIMES, "must be finite"),
        ([[0.1]], [0.0, 1.0, 0.5], "`times` must be"),
        ([[0.1]], [0.0, 0.0], "`times` must be"),
        ([[0.1]], [], "`times` must be"),
        ([[0.1]], [0.0, np.nan], "`times` must be"),
        ([[0.1]], 1.0, "`times` must be"),
    ],
)
def test_simulate_refuses_bad_input(q0, times, rule):
    with pytest.raises(ValueError, match=rule):
        SYSTEMS["pendulum"].simulate(np.array(q0), np.array(q0), times)


def test_head_on_collision_is_one_clear_error():
    q0, p0 = np.array([[-0.5, 0, 0.5, 0]]), np.zeros((1, 4))
    with pytest.raises(ArithmeticError, match="collision"):
        SYSTEMS["two_body"].simulate(q0, p0, TIMES)
