"""A prior over first states that is learned after training, from videos."""

import dataclasses

import numpy as np
import tensorflow as tf

from hgn_tf.integrators import check_count
from hgn_tf.phase import PhaseState

# Directions with less than this share of the variance are left out: a latent
# larger than the system needs has many in which the states hardly differ.
_DEAD = 1e-5
_MOST_DIRECTIONS = 48
# States per component: a covariance of fewer is guessed badly.
_STATES_PER_COMPONENT = 25
# A component's covariance counts the mean one as so many states more.
_SHRINKAGE = 5.0
_CLUSTER_STEPS, _EM_STEPS = 10, 40
_TOLERANCE = 1e-3  # nats per state that a step of EM must gain


@dataclasses.dataclass(frozen=True, eq=False)
class StatePrior:
    """A mixture of Gaussians on the thin set that inferred states fill.

    s = mean + y basis, y ~ sum_k shares_k N(centers_k, scales_k scales_k^T)

    s is q and p in a row. The basis spans the directions in which the states
    of the videos differ: principal components. A component of the mixture is a
    flat piece of the set, so that many of them follow its bends.

    Attributes:
      mean: Mean of the states, [size].
      basis: Orthonormal directions, [directions, size].
      shares: Shares of the components, [components].
      centers: Their means, [components, directions].
      scales: Their lower triangular scales, [components, directions,
        directions].
    """

    mean: np.ndarray
    basis: np.ndarray
    shares: np.ndarray
    centers: np.ndarray
    scales: np.ndarray

    def sample(self, num_samples: int, seed: int = 0) -> np.ndarray:
        """States in rows, float32 [num_samples, size]; the same for a seed."""
        rng = np.random.default_rng(seed)
        shares = self.shares.astype(np.float64)
        chosen = rng.choice(len(shares), num_samples, p=shares / shares.sum())
        noise = rng.standard_normal((num_samples, len(self.basis)))
        within = np.einsum("nij,nj->ni", self.scales[chosen], noise)
        states = self.mean + (self.centers[chosen] + within) @ self.basis
        return states.astype(np.float32)

    def log_prob(self, states: np.ndarray) -> np.ndarray:
        """Log density of y at states [n, size], nats, [n].

        What a state has outside of the basis does not count.
        """
        y = (np.asarray(states, np.float64) - self.mean) @ self.basis.T
        return np.logaddexp.reduce(
            _log_joint(y, self.shares, self.centers, self.scales), axis=1
        )

    def arrays(self) -> dict[str, np.ndarray]:
        """What makes it, by name, for a file."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray]) -> "StatePrior":
        """The prior that `arrays` gave.

        Raises: ValueError: if names or shapes are not those of one.
        """
        shapes = {name: np.shape(array) for name, array in arrays.items()}
        names = [field.name for field in dataclasses.fields(cls)]
        if set(shapes) == set(names) and len(shapes["centers"]) == 2:
            count, directions = shapes["centers"]
            expected = {
                "mean": shapes["basis"][1:],
                "basis": (directions, *shapes["mean"]),
                "shares": (count,),
                "centers": (count, directions),
                "scales": (count, directions, directions),
            }
            if shapes == expected:
                return cls(**arrays)
        raise ValueError(
            f"A learned prior must have the arrays {names} of matching shapes. "
            f"Received: {shapes}."
        )

    def rounded(self) -> "StatePrior":
        """The same in half precision, as float32."""
        return StatePrior(
            **{
                name: array.astype(np.float16).astype(np.float32)
                for name, array in self.arrays().items()
            }
        )


def fit_prior(
    states: np.ndarray, num_components: int = 128, seed: int = 0
) -> StatePrior:
    """Fits a `StatePrior` to states by expectation and maximisation.

    Args:
      states: Rows of q and p, [n, size].
      num_components: int. Components at most: there is one per 25 states.
        Defaults to 128.
      seed: int. Seed of the first guess. Defaults to 0.
    Returns: StatePrior.
    Raises: ValueError: if there are fewer than two states, they are all
      equal, or one is not finite, or there is no component.
    Source: Dempster, Laird, Rubin 1977, Maximum likelihood from incomplete
      data via the EM algorithm.
    """
    check_count("num_components", num_components)
    states = np.asarray(states, np.float64)
    if (
        len(states) < 2
        or not np.isfinite(states).all()
        or (not np.ptp(states, axis=0).max() > 0)
    ):
        raise ValueError(
            "A prior is fitted to two different, finite states at least. "
            f"Received: {states.shape}."
        )
    mean = states.mean(axis=0)
    _, spread, basis = np.linalg.svd(states - mean, full_matrices=False)
    share = np.square(spread) / np.square(spread).sum()
    basis = basis[:_MOST_DIRECTIONS][share[:_MOST_DIRECTIONS] > _DEAD]
    y = (states - mean) @ basis.T
    count = int(np.clip(len(y) // _STATES_PER_COMPONENT, 1, num_components))
    weights = _clusters(y, count, np.random.default_rng(seed))
    last = -np.inf
    for _ in range(_EM_STEPS):
        mixture = _maximise(y, weights)
        joint = _log_joint(y, *mixture)
        total = np.logaddexp.reduce(joint, axis=1)
        weights = np.exp(joint - total[:, None])
        if total.mean() < last + _TOLERANCE:
            break
        last = total.mean()
    arrays = (mean, basis, *mixture)
    return StatePrior(*(array.astype(np.float32) for array in arrays))


def state_rows(state: PhaseState) -> np.ndarray:
    """States [batch, ...] as rows of q and p, [batch, size]."""
    flat = [np.asarray(part).reshape(len(part), -1) for part in state]
    return np.concatenate(flat, axis=1)


def states_from_rows(rows: np.ndarray, shape: tuple[int, ...]) -> PhaseState:
    """PhaseState [batch, *shape] of rows of q and p."""
    q, p = tf.split(tf.constant(rows), 2, axis=1)
    return PhaseState(tf.reshape(q, [-1, *shape]), tf.reshape(p, [-1, *shape]))


def _clusters(y, count, rng):
    """First weights [n, components]: each state belongs to one cluster."""
    centers = y[rng.choice(len(y), count, replace=False)]
    for _ in range(_CLUSTER_STEPS):
        apart = np.square(centers).sum(axis=1) - 2 * y @ centers.T
        members = np.eye(count)[apart.argmin(axis=1)]
        sizes = members.sum(axis=0)
        found = members.T @ y / np.maximum(sizes, 1)[:, None]
        centers = np.where(sizes[:, None] > 0, found, centers)
    return members


def _maximise(y, weights):
    """Shares, centers and scales of weights [n, components]."""
    sizes = weights.sum(axis=0) + 1e-9
    centers = weights.T @ y / sizes[:, None]
    apart = [y - center for center in centers]
    scatter = np.stack(
        [(part * weights[:, [k]]).T @ part for k, part in enumerate(apart)]
    )
    mean = scatter.sum(axis=0) / len(y)
    # So that no component is flat in more directions than all are.
    mean += 1e-6 * np.trace(mean) / len(mean) * np.eye(len(mean))
    covariance = (scatter + _SHRINKAGE * mean) / (sizes + _SHRINKAGE)[
        :, None, None
    ]
    return sizes / sizes.sum(), centers, np.linalg.cholesky(covariance)


def _log_joint(y, shares, centers, scales):
    """Log of share times density, [n, components]."""
    columns = []
    for share, center, scale in zip(shares, centers, scales):
        whitened = np.linalg.solve(scale, (y - center).T)
        columns.append(
            np.log(share)
            - np.log(np.diag(scale)).sum()
            - 0.5 * np.square(whitened).sum(axis=0)
        )
    constant = 0.5 * y.shape[1] * np.log(2 * np.pi)
    return np.stack(columns, axis=1) - constant
