"""Imported by each Python that has this folder in PYTHONPATH, before anything else: see imitation.py."""

import importlib

importlib.import_module("imitation").install()
