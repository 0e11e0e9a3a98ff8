"""Recording what passes at the sockets, and sending it again."""
