"""Published networks, in the file formats of their authors: over pixels and over latents."""
