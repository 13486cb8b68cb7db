"""What completes the command in bash, zsh and fish, made from the table of options and from the settings.

An argument is completed by what the option takes: words (names of settings, targets, shells), files, or files behind a
part that says so, as in NAME=VALUE and NAME=@FILE. What is free text is left to the user.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .command_line import CONFIG, OPTIONS, SHELLS, Option
from .config.load import describe
from .deploy.targets import TARGETS

_SUFFIX = CONFIG.rpartition(".")[2]


def script(shell: str) -> str:
    """The script for one of the shells, which that shell reads."""
    lines = {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]()
    return "".join(f"{line}\n" for line in lines)


def _settings() -> list[str]:
    return [f"{row.table}.{row.key}=" if row.table else f"{row.key}=" for row in describe()]


def _words(option: Option) -> Iterable[str]:
    """The arguments that an option can have; none where they are files, or free."""
    return {"setting": _settings(), "target": TARGETS, "shell": SHELLS}.get(option.takes, ())


def _bash() -> Iterator[str]:
    yield '# Completes greenfcgi in bash: eval "$(greenfcgi --completion bash)"'
    yield "_greenfcgi() {"
    yield "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}"
    # For bash, these are words of their own, also together.
    yield "    [[ $cur == +([=@:<]) ]] && prev=$cur cur="
    yield "    if [[ $prev == = && ${COMP_WORDS[COMP_CWORD-2]} == --* ]]; then prev=${COMP_WORDS[COMP_CWORD-2]}; fi"
    yield "    if [[ $prev == = && ${COMP_WORDS[COMP_CWORD-1]} == --* ]]; then prev=${COMP_WORDS[COMP_CWORD-1]}; fi"
    yield "    COMPREPLY=()"
    yield "    case $prev in"
    for option in OPTIONS:
        if option.takes:
            yield f"        {'|'.join(option.names)}) {_bash_argument(option)} ;;"
    yield "        *[=:\\<]) _greenfcgi_files -f ;;"
    # Of these, it takes the sign for a part of the word in the end.
    yield "        *@) _greenfcgi_files -f -P @ ;;"
    yield "        *)"
    yield "            if [[ $cur == -* ]]; then"
    yield f'                mapfile -t COMPREPLY < <(compgen -W "{" ".join(_all_names())}" -- "$cur")'
    yield "            else"
    yield "                _greenfcgi_config"
    yield "            fi ;;"
    yield "    esac"
    yield "}"
    yield "_greenfcgi_files() {"
    yield "    compopt -o filenames"
    yield '    mapfile -t COMPREPLY < <(compgen "$@" -- "$cur")'
    yield "}"
    yield "_greenfcgi_config() {"
    yield "    compopt -o filenames"
    yield f'    mapfile -t COMPREPLY < <(compgen -f -X \'!*.{_SUFFIX}\' -- "$cur"; compgen -d -- "$cur")'
    yield "}"
    yield "complete -F _greenfcgi greenfcgi"


def _bash_argument(option: Option) -> str:
    if words := _words(option):
        space = "compopt -o nospace; " if option.takes == "setting" else ""
        return f'{space}mapfile -t COMPREPLY < <(compgen -W "{" ".join(words)}" -- "$cur")'
    files = {"config": "_greenfcgi_config", "file": "_greenfcgi_files -f", "folder": "_greenfcgi_files -d"}
    return files.get(option.takes, "")


def _all_names() -> list[str]:
    return [name for option in OPTIONS for name in option.names]


def _zsh() -> Iterator[str]:
    yield "#compdef greenfcgi"
    yield '# Completes greenfcgi in zsh: eval "$(greenfcgi --completion zsh)", after compinit'
    yield "_greenfcgi() {"
    yield "    _arguments -s -S : \\"
    tasks = [name for option in OPTIONS if option.is_task for name in option.names]
    for option in OPTIONS:
        excluded = "" if option.is_repeatable else f"({' '.join(tasks if option.is_task else option.names)})"
        star = "*" if option.is_repeatable else ""
        metavar = option.metavar.replace(":", "\\:")
        action = f":{metavar}:{_zsh_action(option)}" if option.takes else ""
        named = [f"{name}{_zsh_joint(name) if option.takes else ''}" for name in option.names]
        names = named[0] if len(named) == 1 else f"'{{{','.join(named)}}}'"
        about = option.help.replace("[", "\\[").replace("]", "\\]").replace("'", "'\\''")
        yield f"        '{excluded}{star}{names}[{about}]{action}' \\"
    yield f"        ':{CONFIG}:_files -g \"*.{_SUFFIX}(-.)\"'"
    yield "}"
    yield "_greenfcgi_setting() {"
    yield f"    if compset -P '*='; then _files; else compadd -S '' -- {' '.join(_settings())}; fi"
    yield "}"
    yield "_greenfcgi_data() {"
    yield "    if compset -P '@'; then _files; else _message 'text, or @FILE'; fi"
    yield "}"
    yield "_greenfcgi_field() {"
    yield "    if compset -P '*=[@<]'; then _files; else _message 'NAME=VALUE, or NAME=@FILE'; fi"
    yield "}"
    # As a file in fpath, it is the function itself.
    yield 'if [[ $funcstack[1] == _greenfcgi ]]; then _greenfcgi "$@"; else compdef _greenfcgi greenfcgi; fi'


def _zsh_joint(name: str) -> str:
    """What says that the argument can stand in the same word: --name=ARGUMENT, -nARGUMENT."""
    return "=" if name.startswith("--") else "+"


def _zsh_action(option: Option) -> str:
    if option.takes in ("setting", "data", "field"):
        return f"_greenfcgi_{option.takes}"
    if words := _words(option):
        return f"({' '.join(words)})"
    files = {"config": f'_files -g "*.{_SUFFIX}(-.)"', "file": "_files", "folder": "_files -/"}
    return files.get(option.takes, " ")


def _fish() -> Iterator[str]:
    yield "# Completes greenfcgi in fish: greenfcgi --completion fish | source"
    yield "function __greenfcgi_setting"
    yield "    set -l token (string replace -r -- '^--set=' '' (commandline -ct))"
    yield "    if string match -q -- '*=*' $token"
    yield "        set -l name (string replace -r -- '=.*' '' $token)"
    yield "        for path in (__fish_complete_path (string replace -r -- '^[^=]*=' '' $token))"
    yield "            echo $name=$path"
    yield "        end"
    yield "    else"
    yield f"        printf '%s\\n' {' '.join(_settings())}"
    yield "    end"
    yield "end"
    yield "function __greenfcgi_file_behind"
    yield "    set -l token (string replace -r -- '^--[a-z-]*=' '' (commandline -ct))"
    yield "    set -l behind (string match -r -- $argv[1] $token); or return"
    yield "    for path in (__fish_complete_path (string sub -s (math 1 + (string length -- $behind)) -- $token))"
    yield "        echo $behind$path"
    yield "    end"
    yield "end"
    for option in OPTIONS:
        names = " ".join(
            f"-l {name.lstrip('-')}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names
        )
        about = option.help.replace("\\", "\\\\").replace("'", "\\'")
        yield f"complete -c greenfcgi {names} -d '{about}'{_fish_argument(option)}"
    yield f"complete -c greenfcgi -k -f -a '(__fish_complete_suffix .{_SUFFIX})'"


def _fish_argument(option: Option) -> str:
    if not option.takes:
        return " -f"
    calls = {
        "setting": "(__greenfcgi_setting)", "data": "(__greenfcgi_file_behind ^@)",
        "field": "(__greenfcgi_file_behind \"^[^=]*=[@<]\")", "config": f"(__fish_complete_suffix .{_SUFFIX})",
        "folder": "(__fish_complete_directories (string replace -r -- \"^--[a-z]*=\" \"\" (commandline -ct)))",
    }  # fmt: skip
    if option.takes == "file":
        return " -r -F"
    words = calls.get(option.takes) or " ".join(_words(option))
    return f" -x -k -a '{words}'" if words else " -x"
