"""The physics videos: pictures, examples and builders of `physics_*`."""
