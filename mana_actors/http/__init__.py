"""What everything that serves HTTP shares: the socket, the server, bodies, the edge."""
