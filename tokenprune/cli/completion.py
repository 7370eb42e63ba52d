"""`tokenprune completion`: a shell completes commands, keys and values."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from tokenprune.cli.command import Command
from tokenprune.errors import ConfigError

ABOUT = """Prints what a shell needs to complete commands, keys and values: names of strategies
(also behind a +), their options, models, tasks, files.

examples:
  eval "$(tokenprune completion bash)"                      in ~/.bashrc
  eval "$(tokenprune completion zsh)"                       in ~/.zshrc, after compinit
  tokenprune completion fish | source                       in ~/.config/fish/config.fish
"""
WORDS = "words"  # what the scripts below ask: the words that a line may end with
# bash cuts words at = and : (COMP_WORDBREAKS); what it puts in stands behind the last cut
_BASH = """_tokenprune() {
    local line="${COMP_LINE:0:COMP_POINT}" cur="${COMP_WORDS[COMP_CWORD]}" word found
    [[ $cur == [=:] ]] && cur=""
    word="${line##*[[:space:]]}"
    COMPREPLY=()
    while IFS= read -r found; do
        [[ $found == *[=/:] ]] || found+=" "
        COMPREPLY+=("${found#"${word%"$cur"}"}")
    done < <(tokenprune completion words "$line" 2>/dev/null)
}
complete -o nospace -F _tokenprune tokenprune"""
_ZSH = """_tokenprune() {
    local -a found open whole
    found=("${(@f)$(tokenprune completion words "$LBUFFER" 2>/dev/null)}")
    open=("${(@M)found:#*[=/:]}")
    whole=("${(@)found:#(|*[=/:])}")
    (( $#open )) && compadd -Q -S '' -a open
    (( $#whole )) && compadd -Q -a whole
}
compdef _tokenprune tokenprune"""
_FISH = (
    """complete -c tokenprune -f -a '(tokenprune completion words (commandline -cp) 2>/dev/null)'"""
)
SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def run(words: Sequence[str], line: str) -> None:
    """Prints a script, or the words that a shell asks for."""
    if len(words) == 2 and words[0] == WORDS:
        from tokenprune.cli.candidates import candidates
        from tokenprune.cli.main import COMMANDS

        modules = (importlib.import_module(f"tokenprune.cli.{name}") for name in COMMANDS)
        for word in candidates(words[1], [module.COMMAND for module in modules]):
            print(word)
        return
    if len(words) != 1 or words[0] not in SCRIPTS:
        known = ", ".join(SCRIPTS)
        raise ConfigError(
            f"which shell is to complete words? Write one of {known}, as in "
            "`tokenprune completion bash`"
        )
    print(SCRIPTS[words[0]])


COMMAND = Command("completion", "what a shell completes words by", ABOUT, "bash|zsh|fish", run)
