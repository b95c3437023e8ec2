"""Using a trained model: a server for programs and a conversation for people. Nothing is imported here; see README.md."""
