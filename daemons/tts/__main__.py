"""`python -m daemons.tts`: the speaking daemon."""

import sys

from daemons import runtime
from daemons.tts.service import TtsService

if __name__ == "__main__":
    sys.exit(runtime.main("tts", TtsService))
