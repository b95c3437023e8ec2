"""What every room may call to keep the owner safe: so far, the search for secrets."""
