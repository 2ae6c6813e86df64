"""The console script `hgn-tf`: loads the package quietly, and runs it.

It stands outside of the package, for `import hgn_tf` loads TensorFlow. That
writes lines of its own to the terminal before any setting can stop it.
"""

import contextlib
import os
import sys
from collections.abc import Iterator


def main() -> int:
    """Runs `hgn_tf.cli.main`; returns its exit status."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with _quiet():
            from hgn_tf.cli import main as run
    except ImportError as error:
        if error.name != "keras":  # a bug, and not another backend
            raise
        print(f"hgn-tf: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return run()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Drops what libraries write to standard error, below Python too."""
    sys.stderr.flush()
    terminal, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


if __name__ == "__main__":
    sys.exit(main())
