"""The developer mode: `greenfcgi --dev`. Save a file, see the page, without a web server, a configuration or a restart.

HTTP comes in through a WSGI application (`app`), which sends each request over a FastCGI connection into the same
server. What differs is around it: saves take effect at once (`save_order`), browsers follow them (`live_reload`),
errors are shown with their source (`inspector`, `error_page`), and the terminal shows requests and logs (`terminal`).
`mode` puts it together. Nothing of this is imported in production.
"""
