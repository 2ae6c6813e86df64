"""Videos of your own as a TFDS dataset."""
