"""Training: the teacher's average, the trainer, and the settings of a run."""
