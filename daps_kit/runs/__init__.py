"""From settings to results: what is measured, the batches that are drawn, their folder, metrics, pictures.

runner        a recipe -> a results folder                    train       a training recipe -> weights
measurement   the items of a run and their measurements       folder      what lies in a results folder
finish        metrics, mean and pictures of what was drawn    table       several results folders -> one table
published     the numbers of papers, to stand beside them
metrics, perceptual     PSNR, SSIM; LPIPS, FID                pictures    grids, strips and maps
progress, training_progress     what a person sees meanwhile
"""
