"""greenfcgi.http: an HTTP client for scripts, by h11 over the sockets that scripts have."""
