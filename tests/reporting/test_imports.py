"""What importing the package leaves out."""

import subprocess
import sys


def test_model_card__needs_no_matplotlib():
    code = "import sys, modeling_data2vec_generic.reporting.model_card; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
