"""Write the concept sets that are made from packages.

common-20k.txt and common-3k.txt hold the most frequent English words of wordfreq, most frequent
first; imagenet-1k.txt holds the names of the ImageNet classes in class order. The same versions
of the packages always give the same files. Needs wordfreq and timm: pip install -e '.[dev]'.
"""

import argparse
import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from timm.data.imagenet_info import ImageNetInfo
from wordfreq import top_n_list

COMMON = {"common-20k.txt": 20_000, "common-3k.txt": 3_000}
IMAGENET = "imagenet-1k.txt"

# How deep to look for the 20,000: about one token in twenty is no plain word.
DEPTH = 30_000

WORD = re.compile(r"[a-z]{3,}")
VOWEL = re.compile(r"[aeiouy]")  # none in "bbc" or "html"
DRAWL = re.compile(r"(.)\1\1")  # "aaah", "soooo"

# Slurs, explicit sexual vocabulary and the coarsest swear words: whole words, so that no longer
# word falls with them. In rot13, so that nobody has to read them; --show-dropped decodes them.
OFFENSIVE = frozenset(
    codecs.decode(
        """
        nany nffubyr nffubyrf onyyfnpx ovgpu ovgpurf ovgpul oybjwbo oybjwbof obare obbo obbof
        ohxxnxr ohyyfuvg puvax puvaxf pyvg pyvgbevf pbpxfhpxre pbba pbbaf pevccyr pevccyrf phz
        phzzvat phzfubg phag phagf qrrcguebng qvpx qvpxurnq qvpxurnqf qvpxf qvyqb qvyqbf qhzonff
        qlxr qlxrf rebgvp rebgvpn snt snttbg snttbgf sntf srgvfu srgvfurf shpx shpxrq shpxre
        shpxref shpxva shpxvat shpxf tnatonat tbbx tbbxf tlcfvrf tlcfl unaqwbo uragnv ubzb ubzbf
        ubbxre ubbxref ubeal vawha wnpxnff wnc wncf wvmm xvxr xvxrf xvax xvaxl znfgheongr
        znfgheongrq znfgheongvat znfgheongvba zvqtrg zvqtrgf zvys zvysf zbgureshpxre
        zbgureshpxref zbgureshpxvat arteb artebrf avttn avttnf avttre avttref ahqrf betnfz
        betnfzf betl cnxv cnxvf cbea cbeab cbeabtencuvp cbeabtencul cbeaf chffvrf chffl erqfxva
        erqfxvaf ergneq ergneqrq ergneqf furznyr fuvg fuvgr fuvgubyr fuvgf fuvggrq fuvggvat
        fuvggl fyhg fyhgf fyhggl fcnfgvp fcvp fcvpf fdhnj guerrfbzr gvgf gvggvrf gvggl genaavrf
        genaal gjng gjngf jnax jnaxre jnaxref jrgonpx juber juberubhfr juberf
        """,
        "rot13",
    ).split()
)

# A class is named by the first of its WordNet synonyms. Three of those name two classes each
# ("crane", "maillot", and "cardigan" but for its capital letter). The dog and the swimsuit take
# their second synonym; the cranes have none, so the gloss behind their name ("large long-necked
# wading bird", "lifts and moves heavy objects") tells them apart.
IMAGENET_NAMES = {
    134: "crane bird",
    264: "Cardigan Welsh corgi",
    517: "lifting crane",
    639: "tank suit",
}


def is_word(token: str) -> bool:
    """Tell a plain English word from a number, an abbreviation or a drawn-out cry."""
    return bool(WORD.fullmatch(token) and VOWEL.search(token) and not DRAWL.search(token))


def frequent_words() -> Iterator[str]:
    """Yield the plain words of wordfreq's English list, most frequent first."""
    tokens = top_n_list("en", DEPTH, wordlist="best")
    bare_contractions = {t.replace("'", "") for t in tokens if t.endswith("n't")}  # "didnt"
    return (t for t in tokens if is_word(t) and t not in bare_contractions)


def common(words: list[str], n: int) -> list[str]:
    """Return the first `n` inoffensive words."""
    kept = [word for word in words if word not in OFFENSIVE][:n]
    if len(kept) < n:
        raise SystemExit(f"only {len(kept)} of {n} words: raise DEPTH above {DEPTH}")
    return kept


def imagenet() -> list[str]:
    """Return 1,000 class names in class order, no two alike whatever their capitals."""
    info = ImageNetInfo()
    first = [
        info.index_to_description(index, detailed=False).split(",")[0].strip()
        for index in range(1000)
    ]
    names = [IMAGENET_NAMES.get(index, name) for index, name in enumerate(first)]
    if len({name.lower() for name in names}) < len(names):
        raise SystemExit("two ImageNet classes share a name: add to IMAGENET_NAMES")
    return names


def write(path: Path, lines: list[str]) -> None:
    """Write one concept a line and say so."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
    print(f"{path}: {len(lines):,} concepts")


def main() -> None:
    """Read the options and write the three files."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).parent,
        metavar="FOLDER",
        help="where to write (default: the folder of this script)",
    )
    parser.add_argument(
        "--show-dropped",
        action="store_true",
        help="write nothing; print the offensive words that are left out",
    )
    options = parser.parse_args()

    words = list(frequent_words())
    if options.show_dropped:
        print("\n".join(word for word in words if word in OFFENSIVE))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    for name, n in COMMON.items():
        write(options.out / name, common(words, n))
    write(options.out / IMAGENET, imagenet())


if __name__ == "__main__":
    main()
