"""What the program reads: images, lists of concepts, labelled images, built-in scenes."""
