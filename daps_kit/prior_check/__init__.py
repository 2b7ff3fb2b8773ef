"""Is a prior sound, and how wrong is it?

choice        what a user names -> a prior's settings         build       settings -> the prior
verdict       errors on known images -> what is wrong         report      the verdict in words and numbers
known_images  the images it is tried on                       power_law   the linear denoiser it must not lose to
measure       the errors as a table that samplers use
"""
