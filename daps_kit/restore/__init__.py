"""Restore a picture with a line of options: a recipe is written, run, and its result given the picture's own form.

picture       what a picture is besides its numbers (depth, opacity, colour profile, EXIF), kept
noise_level   how strong the noise of a picture is
mask          what of it is to be filled
recipe        options -> the text of a recipe, and the files it needs
results       a run -> restored pictures, and a picture of before and after
"""
