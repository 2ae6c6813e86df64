"""True physics, its pictures, and the TFDS datasets made of them.

    systems -> video: render -> examples -> builder ==TFDS==> tfds.load
                      render <- reading: from frames back to states
    systems -> hnn: tasks -> builders               ==TFDS==> tfds.load
    your files -> folder: recordings -> builder     ==TFDS==> VideoFolder

Importing this package registers the datasets, and what draws them for
`tfds.show_examples`, without loading TensorFlow.
"""

from tfds_physics import pictures
from tfds_physics.folder.builder import VideoFolder
from tfds_physics.folder.example import film_pendulum
from tfds_physics.hnn.builders import StateConfig
from tfds_physics.hnn.pixel_pendulum import HNNPixelPendulum, PixelConfig
from tfds_physics.hnn.real_pendulum import HNNRealPendulum
from tfds_physics.preparation import parse_beam_options
from tfds_physics.systems import SYSTEMS, System
from tfds_physics.video.builder import PhysicsVideo
from tfds_physics.video.configs import PhysicsConfig
from tfds_physics.video.examples import Recipe, make_examples
from tfds_physics.video.reading import (
    MotionReading,
    Reading,
    read_frames,
    read_momenta,
    read_motion,
    unwrap,
)
from tfds_physics.video.render import expected_video, render_video

pictures.register()

__all__ = [
    "HNNPixelPendulum",
    "HNNRealPendulum",
    "MotionReading",
    "SYSTEMS",
    "PhysicsConfig",
    "PhysicsVideo",
    "PixelConfig",
    "Reading",
    "Recipe",
    "StateConfig",
    "System",
    "VideoFolder",
    "expected_video",
    "film_pendulum",
    "make_examples",
    "parse_beam_options",
    "read_frames",
    "read_momenta",
    "read_motion",
    "render_video",
    "unwrap",
]
