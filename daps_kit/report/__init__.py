"""The page of a run: `report.html` in its folder, and of several runs side by side.

page         the page and the files beside it: composed and written
reading      a results folder -> what the page tells          planes      the pictures of an image, as data for the page
citations    a recipe -> the papers of what it uses           compare     settings that differ, paired differences
summary      the numbers in words: metrics.md                 animation    the way through the noise levels, moving
page/        the template, its style and its script, which need nothing from a network

The page is made from a results folder alone, so a run that was broken off has the page of an unbroken one.
"""
