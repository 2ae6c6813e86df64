"""The models: one class a file."""
