"""Ports for servers that other processes open."""

import random
import socket


def free_port() -> int:
    """Return a port of this machine where nothing listens.

    Systems hand out ports from 32768 on to servers and clients that ask for any; one below stays free until the process of a test opens it.
    """
    numbers = random.SystemRandom()  # workers that run at the same time, and have one seed, take others
    while True:
        port = numbers.randrange(20_000, 32_000)
        with socket.socket() as attempt:
            try:
                attempt.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
