"""Tests of modules about requests and replies."""
