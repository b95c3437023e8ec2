"""Which tool fulfils a need: a catalogue of this machine's packages and a curated list, and what a model makes of it."""
