"""The physical systems, and SYSTEMS: the one list of them.

numpy and scipy only. A new system is a file here and a line of SYSTEMS.
"""

from tfds_physics.systems.base import System
from tfds_physics.systems.double_pendulum import DoublePendulum
from tfds_physics.systems.mass_spring import MassSpring
from tfds_physics.systems.n_body import NBody
from tfds_physics.systems.pendulum import Pendulum

SYSTEMS: dict[str, System] = {
    "mass_spring": MassSpring(),
    "pendulum": Pendulum(),
    "two_body": NBody(num_bodies=2, start_radius=(0.5, 1.5), noise=0.05),
    "three_body": NBody(num_bodies=3, start_radius=(0.9, 1.2), noise=0.2),
    "double_pendulum": DoublePendulum(),
}
