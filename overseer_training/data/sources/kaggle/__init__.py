"""Data sets from Kaggle: downloaded once, unpacked with care, converted to rows and series, listed without a network."""
