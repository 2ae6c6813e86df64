"""What is drawn and written to be looked at: figures, GIFs, pages."""

import importlib

__all__ = ["explore", "figures", "gif", "report"]


def __getattr__(name: str):
    if name in __all__:
        return importlib.import_module(f"hgn_tf.viz.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
