"""What an encoder is worth on a labelled task: tasks, models with a head, their training."""
