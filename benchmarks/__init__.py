"""Compares speed and memory of the library with a loop written by hand. For people to read; tests never check
times."""
