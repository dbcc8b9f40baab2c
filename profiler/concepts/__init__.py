"""The concept space and what is read off it: linear alignment, heatmaps, attributes of classes."""
