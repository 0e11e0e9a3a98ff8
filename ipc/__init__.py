"""The wire between the daemons: messages, codec, session rules, sockets, security, marks, and the client."""
