"""greenfcgi: a FastCGI application server for Lua. The command is in `cli`; the way of a request begins in `server`."""

__version__ = "0.1.0"
