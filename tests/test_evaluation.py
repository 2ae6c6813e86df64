"""What an evaluation makes of energies."""

import numpy as np

from hgn_tf.evaluation import energy_scores

COMPARED = ("energy_r2", "energy_drift", "energy_variance_share")


def test_a_kept_energy_that_follows_the_true_one():
    truth = np.linspace(1.0, 3.0, 50)
    along = np.repeat(-2.0 * truth[:, None] + 5.0, 30, axis=1)
    along[:, 10] += 0.5
    scores = energy_scores(along.astype(np.float32), truth)
    spread = 2.0 * truth.std()
    np.testing.assert_allclose(scores["energy_r2"], 1.0, rtol=1e-6)
    np.testing.assert_allclose(scores["energy_drift"], 0.5 / spread, rtol=1e-5)
    variance = 0.25 * (1 / 30) * (29 / 30)
    np.testing.assert_allclose(scores["energy_variance"], variance, rtol=1e-5)
    np.testing.assert_allclose(
        scores["energy_variance_share"], variance / spread**2, rtol=1e-5
    )


def test_one_energy_for_all_has_no_spread_to_compare_with():
    along = np.full([2000, 30], 0.1, np.float32)
    assert along[:, 0].std() > 0  # in float32
    scores = energy_scores(along, np.linspace(1.0, 3.0, 2000))
    assert scores["energy_variance"] == 0
    assert all(np.isnan(scores[name]) for name in COMPARED)
