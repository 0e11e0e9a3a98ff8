"""`python -m tests.support.schedules SEED` tells the story of one schedule."""

import sys

from tests.support.schedules.world import World

print(World(int(sys.argv[1])).run().story())
