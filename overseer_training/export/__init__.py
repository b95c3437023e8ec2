"""Export: a trained model folder becomes files that other programs load. Nothing is imported here; see README.md."""
