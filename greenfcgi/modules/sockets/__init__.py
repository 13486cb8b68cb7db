"""Sockets for scripts, as LuaSocket and LuaSec have them, which wait without holding up others."""
