"""python -m daemons.llm"""

import sys

from daemons.llm.service import LlmService
from daemons.runtime import main

if __name__ == "__main__":
    sys.exit(main("llm", LlmService))
