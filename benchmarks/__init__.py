"""Speed and memory of the library beside a floor without it. Ratios for people to read, never timed tests."""
