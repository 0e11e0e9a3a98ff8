"""python -m daemons.memory"""

import sys

from daemons.memory.service import MemoryService
from daemons.runtime import main

if __name__ == "__main__":
    sys.exit(main("memory", MemoryService))
