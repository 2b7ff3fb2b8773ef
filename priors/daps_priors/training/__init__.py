"""How that denoiser is trained: images, augmentation, optimiser steps, checkpoints, validation."""
