"""`python -m hgn_tf` is the command `hgn-tf`."""

import sys

from hgn_tf.cli import main

if __name__ == "__main__":
    sys.exit(main())
