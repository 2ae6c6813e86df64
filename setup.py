"""Package metadata of hgn-tf: version, dependencies, extras, command line."""

import pathlib
import re

import setuptools

# The one place to change the owner: the notebooks' badges, their install line
# and the links of the documentation read it here.
URL = "https://github.com/hgn-tf/hgn-tf"
ROOT = pathlib.Path(__file__).parent

# Read as text: importing hgn_tf here would need TensorFlow at build time.
VERSION = re.search(
    r'^__version__ = "([^"]+)"',
    (ROOT / "hgn_tf" / "__init__.py").read_text(encoding="utf-8"),
    re.MULTILINE,
).group(1)

README = ROOT / "README.md"

INSTALL = [
    "tensorflow>=2.20,<2.22",
    # Keras 3.13 dropped Python 3.10; 3.12 is the last that runs on it.
    "keras>=3.13,<3.16; python_version >= '3.11'",
    "keras>=3.12,<3.13; python_version < '3.11'",
    "numpy>=2.0",
    "scipy",
    "protobuf>=6.31.1,<7",
    "tensorflow-datasets==4.9.10",
    # TFDS imports it while generating a dataset and does not declare it.
    "importlib_resources",
    "filelock",
    "matplotlib>=3.8",
    "pillow>=10",
    "jinja2>=3.1",
]
NHF = ["tensorflow-probability[tf]==0.25.0"]
REAL = ["scikit-learn>=1.4"]  # Its data, and its mixture of Gaussians.
VIDEO = ["av>=12"]  # PyAV's wheels have FFmpeg in them.
RUFF = ["ruff==0.17.6"]  # The same version in .pre-commit-config.yaml.
TYPES = ["mypy==2.4.1"]
# Its own lines: the Makefile reads them, to install no more for the site.
DOCS = [
    "mkdocs>=1.6,<2",
    "mkdocs-material>=9.5",
    "mkdocstrings[python]>=1.0",
    "griffelib>=2.0",
    "jupytext",
]
NOTEBOOKS = [*NHF, *VIDEO, "jupytext", "ipykernel", "nbmake"]
# mlcroissant is for the command `tfds`, which does not start without both.
BEAM = ["apache-beam>=2.77", "mlcroissant"]
TEST = [*NOTEBOOKS, *BEAM, *REAL, "pytest>=8", "pytest-xdist>=3", "dill"]

setuptools.setup(
    name="hgn-tf",
    version=VERSION,
    description="Hamiltonian Generative Networks for TensorFlow and Keras 3",
    long_description=README.read_text("utf-8") if README.exists() else "",
    long_description_content_type="text/markdown",
    url=URL,
    project_urls={
        "Source": URL,
        "Documentation": f"{URL}/blob/main/docs/index.md",
        "Changelog": f"{URL}/blob/main/CHANGELOG.md",
        "Issues": f"{URL}/issues",
    },
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10,<3.13",
    packages=setuptools.find_packages(
        include=["hgn_tf", "hgn_tf.*", "tfds_physics", "tfds_physics.*"]
    ),
    py_modules=["hgn_tf_command"],
    package_data={
        "hgn_tf": ["py.typed", "viz/templates/*", "weights/**/*"],
        "tfds_physics": [
            "py.typed",
            "**/README.md",
            "**/CITATIONS.bib",
            "**/TAGS.txt",
        ],
    },
    install_requires=INSTALL,
    extras_require={
        "nhf": NHF,
        "real": REAL,
        "video": VIDEO,
        "tensorboard": ["tensorboard"],
        "beam": BEAM,
        "gym": ["gymnasium[classic-control]"],
        "hub": ["huggingface_hub"],
        "notebooks": NOTEBOOKS,
        "docs": [*DOCS, *RUFF],  # Ruff sets the signatures.
        "test": TEST,
        "dev": [*TEST, *RUFF, *TYPES, *DOCS, "build", "pre-commit"],
    },
    entry_points={"console_scripts": ["hgn-tf = hgn_tf_command:main"]},
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
