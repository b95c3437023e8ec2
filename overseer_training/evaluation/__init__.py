"""Scores models by what their commands do. See README.md."""
