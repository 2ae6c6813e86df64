"""How far the bodies of later frames are from all places of the first thirty.

Run: python benchmarks/new_places.py

A law that is learned from videos of 30 frames is asked for places that those
videos have, and for no others. For each frame of a held-out motion, the nearest
of the places in the first 30 frames of other motions is looked for. A place is
that of all bodies at once. Distances are shares of the root mean square of the
places' distance from their mean, in the first 30 frames.
"""

import numpy as np
from scipy.spatial import cKDTree

from hgn_tf import data
from hgn_tf.experiments.hgn.config import SYSTEMS

SEEN = 30
MOTIONS, HELD_OUT = 2500, 500
FRAMES = ((1, 10), (21, 30), (31, 40), (51, 60))


def distances(system):
    """Median distance to the nearest place seen, of each range of frames."""
    recipe = data.get_builder(f"physics_{system}/long").recipe
    q = data.make_trajectories(recipe, "train", range(MOTIONS + HELD_OUT)).q
    seen = q[:MOTIONS, :SEEN].reshape(-1, recipe.system.dof)
    tree = cKDTree(seen)
    spread = np.sqrt(np.square(seen - seen.mean(0)).sum(-1).mean())
    for first, last in FRAMES:
        held_out = q[MOTIONS:, first - 1 : last].reshape(-1, recipe.system.dof)
        nearest, _ = tree.query(held_out)
        yield np.median(nearest) / spread


def main():
    heads = [f"frames {first} to {last}" for first, last in FRAMES]
    print("| system | " + " | ".join(heads) + " |\n" + "|---" * 5 + "|")
    for system in SYSTEMS:
        cells = " | ".join(f"{x:.2g}" for x in distances(system))
        print(f"| {system.replace('_', '-')} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
