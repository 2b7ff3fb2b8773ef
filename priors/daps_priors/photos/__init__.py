"""The prior of photographs of any size: its linear denoiser, its network, tiles, and its file of weights."""
