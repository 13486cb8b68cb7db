"""Lines of logs: their text, the files that they are appended to, the error log and the access log."""
