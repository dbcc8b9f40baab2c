"""Networks: the subject under study, vision-language models, classifiers, attacks on them."""
