"""Files of weights that others made: fetched, checked, and read without running anything in them.

checkpoints   where they are kept, whether they are whole     fetch       from Drive, the hub or a web server
tensors       a checkpoint's tensors, safely                  download    a large file over HTTP, resumed
averages      the weights, or their moving average            pickles     a pickle, without running anything in it
"""
