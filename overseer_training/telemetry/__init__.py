"""What a machine does over time, measured or simulated, and questions about what it will do next."""
