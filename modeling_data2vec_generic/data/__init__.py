"""Data: from a source (embedded, folder, file, Hub) to prepared samples, and from samples to masked batches."""
