"""How many files this process, and each server that it starts, may have open."""

import resource


def allow_descriptors(number: int) -> int:
    """Raise the soft limit to `number`, or as far as the hard one lets it, and return how many may be open now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = number if hard == resource.RLIM_INFINITY else min(number, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most
