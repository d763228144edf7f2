"""What setup.cfg cannot say: `examples/` is installed within the package, so that recipes can be given by their names.

In a clone and in an editable install it stays where it is: `examples_folder` of the package's cli/recipes.py finds it.
"""

from setuptools import find_packages, setup

PACKAGE = "modeling_data2vec_generic"

setup(
    packages=[*find_packages(include=[PACKAGE, f"{PACKAGE}.*"]), f"{PACKAGE}.examples"],
    package_dir={f"{PACKAGE}.examples": "examples"},
    package_data={PACKAGE: ["py.typed"], f"{PACKAGE}.examples": ["**/*"]},
    exclude_package_data={f"{PACKAGE}.examples": ["**/__pycache__/*"]},
)
