"""The commands of `overseer`, one module a topic: each adds its parsers and does the work by calling rooms."""
