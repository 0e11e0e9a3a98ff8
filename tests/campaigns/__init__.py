"""Campaigns: a promise tried against many random inputs, each of which its seed brings back (docs/campaigns.md)."""
