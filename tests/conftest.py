import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Before torch is imported: tests run side by side, and several threads in each would wait for one another.
os.environ.setdefault("OMP_NUM_THREADS", "1")
