"""Where rows come from; one small file for each source."""
