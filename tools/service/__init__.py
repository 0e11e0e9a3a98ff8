"""Timmy as a service of systemd: what is installed, and how it does there."""
