# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# On Colab the first cell installs the package and what TensorFlow Datasets
# needs. Elsewhere the cell does nothing.

# %%
import subprocess
import sys

if "google.colab" in sys.modules:
    packages = [
        "hgn-tf[nhf,video] @ git+PROJECT_URL",
        "importlib_resources",
        "protobuf>=6.31.1,<7",
    ]
    pip = [sys.executable, "-m", "pip", "install", "-q"]
    subprocess.run([*pip, *packages], check=True)
