"""What each layer sees: units labelled, labels judged, words sorted, the profile drawn."""
