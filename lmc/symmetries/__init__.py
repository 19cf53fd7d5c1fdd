"""The room lmc/symmetries."""
