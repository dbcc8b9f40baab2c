"""The one pass over the images: what each unit does, and which images drive it most."""
