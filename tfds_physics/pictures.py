"""What `tfds.show_examples` and `tfds.as_dataframe` draw of the datasets."""

import base64
import importlib
import io

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.core.visualization import visualizer

_SHOWN_FRAMES = 6
_GIF_WIDTH = 96
_GIF_SECONDS = 0.1  # per frame


class Frames(tfds.features.Tensor):
    """A video as a tensor, which `tfds.as_dataframe` shows as a moving picture.

    Stored and described as the tensor that it is: to read a folder, nobody
    needs this class.
    """

    @property
    def _fully_qualified_class_name(self):
        kind = tfds.features.Tensor
        return f"{kind.__module__}.{kind.__name__}"

    def repr_html(self, ex: np.ndarray) -> str:
        """An image element that holds a GIF of frames [time, h, w, 3]."""
        first, *others = (Image.fromarray(frame) for frame in ex)
        data = io.BytesIO()
        first.save(
            data,
            "GIF",
            save_all=True,
            append_images=others,
            duration=round(1000 * _GIF_SECONDS),
            loop=0,
        )
        text = base64.b64encode(data.getvalue()).decode("ascii")
        return (
            f'<img width="{_GIF_WIDTH}" style="image-rendering:pixelated" '
            f'src="data:image/gif;base64,{text}">'
        )


class _Pictures(visualizer.Visualizer):
    """Videos as film strips; rows as frames, or as arrows in phase space."""

    def match(self, ds_info):
        return _draws(ds_info.features) is not None

    def show(self, ds, ds_info, rows=3, cols=3, plot_scale=3.0):
        import matplotlib.pyplot as plt

        examples = list(tfds.as_numpy(ds.take(rows * cols)))
        draw = _draws(ds_info.features)
        if draw is _draw_arrows:
            figure, axes = plt.subplots()
            _draw_arrows(axes, examples)
        else:
            size = (2 * plot_scale * cols, 0.6 * plot_scale * rows)
            figure, grid = plt.subplots(rows, cols, squeeze=False, figsize=size)
            for axes in grid.flat:
                axes.axis("off")
            for axes, example in zip(grid.flat, examples):
                draw(axes, example)
        plt.show()
        return figure


def _draws(features):
    """The function that draws examples with these features, or None."""
    names = set(features or ())
    if names >= {"video", "q", "p", "dq_dt"}:
        return _draw_strip
    if names >= {"x", "dx_dt", "trajectory"}:
        return _draw_frame if "angle" in names else _draw_arrows
    return None


def _draw_strip(axes, example):
    video = example["video"]
    picked = np.linspace(0, len(video) - 1, min(_SHOWN_FRAMES, len(video)))
    axes.imshow(np.concatenate(video[picked.round().astype(int)], axis=1))
    axes.set_title(example["id"].decode(), fontsize="small")


def _draw_frame(axes, example):
    """Of the pixel pendulum: the first half of x."""
    frame, _ = np.split(example["x"], 2)
    side = round(len(frame) ** 0.5)
    axes.imshow(frame.reshape(side, side), cmap="gray")
    axes.set_title(f"{example['angle']:.2f} rad", fontsize="small")


def _draw_arrows(axes, examples):
    """dx_dt at x = (q, p), of the first coordinate and its momentum."""
    half = len(examples[0]["x"]) // 2
    x, dx_dt = (
        np.stack([example[name][[0, half]] for example in examples])
        for name in ("x", "dx_dt")
    )
    axes.quiver(*x.T, *dx_dt.T, angles="xy")
    axes.set(xlabel="q", ylabel="p")


def register() -> None:
    """Lets `tfds.show_examples` know how to draw the datasets."""
    shown = importlib.import_module(
        "tensorflow_datasets.core.visualization.show_examples"
    )
    # Before TFDS's own: one of them takes any metadata for those of a graph.
    shown._ALL_VISUALIZERS.insert(0, _Pictures())
