"""The FastCGI protocol, without I/O: bytes in, events out, and replies as bytes."""
