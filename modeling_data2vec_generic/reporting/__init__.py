"""What a run leaves behind for a reader: figures and a model card."""
