"""`KEY=VALUE` words, as every command reads them: a frozen dataclass is the schema of a command.

Its fields are made by `key`, and their types say how a value is read:

* `Size` is a number or the word auto;
* text is taken as typed, `null` where the field may be None; numbers and switches are YAML;
* a list has commas, with or without brackets; `repeated` fields take one value from each word;
* a dictionary gathers words with a dot, as in `trainer.devices=2`; the one called `options` has
  those of strategies, as in `dycoke.merge=0.5`;
* a field without help is not a word: a file may have it.

`config=FILE` reads a file that a command has written, and words override what stands in it.
Light to import: the command line reads its help from modules that stand on this one.
"""

from __future__ import annotations

from tokenprune.options.files import flat, from_file, from_mapping, load_file
from tokenprune.options.schema import (
    AND_OPTIONS,
    check_owners,
    key,
    keys_of,
    known,
    meant,
    nearest,
    options_of,
    own_first,
    strategies,
)
from tokenprune.options.values import (
    AUTO,
    SAMPLINGS,
    SHORTS,
    Size,
    as_typed,
    check_counts,
    check_fraction,
    check_once,
    check_sampling,
    check_short,
    from_text,
    read_value,
    split,
    typed,
)
from tokenprune.options.words import BESIDES, given, parse_pair, printing, read_options, switched

__all__ = [
    "AND_OPTIONS",
    "AUTO",
    "BESIDES",
    "SAMPLINGS",
    "SHORTS",
    "Size",
    "as_typed",
    "check_counts",
    "check_fraction",
    "check_once",
    "check_owners",
    "check_sampling",
    "check_short",
    "flat",
    "from_file",
    "from_mapping",
    "from_text",
    "given",
    "key",
    "keys_of",
    "known",
    "load_file",
    "meant",
    "nearest",
    "options_of",
    "own_first",
    "parse_pair",
    "printing",
    "read_options",
    "read_value",
    "split",
    "strategies",
    "switched",
    "typed",
]
