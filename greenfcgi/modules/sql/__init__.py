"""Databases for scripts: `require "greenfcgi.sql"`, and LuaSQL on top. Each driver is a module of its own."""
