"""Modules for scripts about requests and replies of the web."""
