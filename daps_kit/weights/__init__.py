"""Files of weights that others made: fetched, checked, and read without running anything in them.

checkpoints   where they come from, where they are kept, whether they are whole
download      a large file over HTTP, resumed                 tensors     a checkpoint's tensors, safely
"""
