// What drives each layer needs no script.
