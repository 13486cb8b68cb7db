"""What the operating system gives: sockets, users, signals, the service manager; and memory, spared or given back."""
