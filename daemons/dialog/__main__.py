import sys

from daemons.dialog.service import DialogService
from daemons.runtime import main

sys.exit(main("dialog", DialogService))
