"""`transformers serve`, as it is, on a CPU and without accelerate.

The server asks for the device by a map, which transformers hands to accelerate; a model that stays
on the CPU needs neither. Nothing else is touched.
"""

import sys

from transformers import modeling_utils
from transformers.cli.transformers import main

modeling_utils.check_and_set_device_map = lambda _: None
sys.argv[0] = "transformers"
main()
