"""The commands of `data2vec`: a file for each, whose `main` takes the words after its name. See `console.py` first."""
