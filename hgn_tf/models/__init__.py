"""The models: one file per model, one package for the flows."""
