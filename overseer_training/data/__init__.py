"""Sources become rows, rows become splits, splits become token files. See README.md."""
