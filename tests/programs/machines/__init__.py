"""Several machines, which are servers on addresses of the loopback, behind a balancer, with a Redis for all of them."""
