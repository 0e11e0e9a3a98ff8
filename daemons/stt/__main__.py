"""python -m daemons.stt"""

import sys

from daemons.runtime import main
from daemons.stt.service import SttService

if __name__ == "__main__":
    sys.exit(main("stt", SttService))
