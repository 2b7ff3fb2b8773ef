"""From settings to results: what is measured, the batches that are drawn, their folder, metrics, pictures.

runner        a recipe -> a results folder                    train       a training recipe -> weights
examine       what a run would stumble over                   devices     where a run computes, and how much at once
worker        who draws a batch                               dispatch    who draws which batch, and what if it fails
sampling      measurements in memory -> samples  posterior   samples, to be looked at
sweep         a recipe at many points -> folders of runs, compared
shard         the i-th of n parts of a run                     merge       folders of parts -> one
measurement   the items of a run and their measurements       finish      what is made from the samples
folder        what lies in a results folder                   result      the same, from Python
environment   with what it was computed                       pictures    grids, strips and maps
metrics, perceptual     PSNR, SSIM; LPIPS, FID                summary     the numbers of a run in words
finished      which runs are finished, and what was run       table       several of them -> one table
published     the numbers of papers, to stand beside them
progress, training_progress     what a person sees meanwhile
"""
