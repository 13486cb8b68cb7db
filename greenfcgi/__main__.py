"""`python -m greenfcgi`."""

from .cli import main

raise SystemExit(main())
