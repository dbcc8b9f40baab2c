"""Why a classifier is wrong: encoder or head, on which concepts, told from checked facts."""
