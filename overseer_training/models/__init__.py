"""Names become weights, weights become models that train and answer. See README.md."""
