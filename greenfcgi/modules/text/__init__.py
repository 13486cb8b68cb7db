"""Modules for scripts about texts: what is written, hashed, encoded and taken to pieces."""
