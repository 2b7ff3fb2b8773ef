"""Do the samples of a recipe cover the truth as often as they say? Simulation-based calibration.

simulate   a recipe -> truths, their measurements and samples -> what is found
ranks      ranks, coverage, TARP and spread against error, of truths and samples
apply      a factor that widens intervals -> the recipe
report     the table and the picture
"""
