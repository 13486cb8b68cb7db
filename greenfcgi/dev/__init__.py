"""The developer mode: `greenfcgi --dev`. Save a file, see the page, without a web server, a configuration or a restart.

HTTP comes in through a door of its own (`door`) and goes the way of every request: through a FastCGI connection into
the same server. What differs is around it: saves take effect at once (`saves`), browsers follow them (`live`), errors
are shown where they are (`inspector`, `errorpage`), and the terminal tells what happens (`terminal`). `mode` puts it
together. Nothing of this is imported in production.
"""
