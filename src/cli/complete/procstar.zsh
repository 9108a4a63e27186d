#compdef procstar
# Completion of procstar for zsh.

_procstar() {
    local -a lines found
    local line word
    lines=("${(@f)$(${(Q)words[1]} __complete -- "${(@Q)words[1,CURRENT]}" 2>/dev/null)}")
    for line in $lines; do
        case $line in
            (:files) _files ;;
            (:dirs) _files -/ ;;
            (:commands) _command_names -e ;;
            (*)
                word=${line%%$'\t'*}
                found+=("${word//:/\\:}${${line#$word}/$'\t'/:}")
                ;;
        esac
    done
    (( $#found )) && _describe -t procstar procstar found
    return 0
}

if [[ $funcstack[1] == _procstar ]]; then
    _procstar "$@"
else
    compdef _procstar procstar
fi
