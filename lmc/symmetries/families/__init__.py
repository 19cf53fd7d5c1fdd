"""The model families, one frozen table each."""
