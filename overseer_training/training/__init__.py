"""The training engine. See README.md."""
