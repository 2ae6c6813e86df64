"""True physics, its pictures, and the TFDS datasets made of them.

    systems -> render -> videos -> examples -> builders ==TFDS==> tfds.load

Importing this package registers the datasets, without loading TensorFlow.
"""

from tfds_physics.builders import PhysicsVideo
from tfds_physics.configs import PhysicsConfig
from tfds_physics.examples import make_examples
from tfds_physics.pixel_pendulum import HNNPixelPendulum
from tfds_physics.real_pendulum import HNNRealPendulum
from tfds_physics.state_builders import StateConfig
from tfds_physics.systems import SYSTEMS, System
from tfds_physics.videos import expected_video, render_video

__all__ = [
    "HNNPixelPendulum",
    "HNNRealPendulum",
    "SYSTEMS",
    "PhysicsConfig",
    "PhysicsVideo",
    "StateConfig",
    "System",
    "expected_video",
    "make_examples",
    "render_video",
]
