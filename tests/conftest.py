"""Settings for all tests."""

from __future__ import annotations

from hypothesis import settings

# No test depends on how fast the machine is: Hypothesis would fail an example over 200 ms.
settings.register_profile("timmy", deadline=None, max_examples=60, print_blob=True)
settings.load_profile("timmy")
