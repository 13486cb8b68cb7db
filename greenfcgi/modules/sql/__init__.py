"""Databases for scripts: `require "greenfcgi.sql"`, and LuaSQL's interface on top. Each driver is a module of its own."""
