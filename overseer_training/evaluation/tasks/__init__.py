"""One file for each kind of task: what the model is asked, and how its answer is scored."""
