"""HTTP of the developer mode: heads of requests, what a URL means, files, FastCGI made of it."""
