"""The processing steps: one module per stage, with its parameters, its declaration and its function."""
