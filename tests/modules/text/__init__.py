"""Tests of modules about texts."""
