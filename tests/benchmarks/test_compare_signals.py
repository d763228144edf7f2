"""The tables of series and of proteins."""

import numpy as np
import pytest
import torch
from transformers import AutoModel

from benchmarks.compare.peers.series import train_patchtst
from benchmarks.compare.tables import proteins, series
