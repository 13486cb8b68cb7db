"""greenfcgi.shared: dictionaries that all states and processes have in common, kept by LMDB or by Redis."""
