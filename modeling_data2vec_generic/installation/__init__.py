"""What is installed on this machine, beside what this package needs: `data2vec doctor` prints it.

Read `packages.py` first, which compares versions; then `features.py`, what each optional package is for, and
`devices.py`.
"""
