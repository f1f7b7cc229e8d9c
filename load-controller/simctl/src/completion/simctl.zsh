#compdef simctl
# zsh completion of simctl. simctl itself says which words fit, so that this file serves every version.
_simctl() {
    local line directive
    local -a candidates
    while IFS= read -r line; do
        case $line in
            :*) directive=$line ;;
            *$'\t'*) candidates+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}") ;;
            *) candidates+=("${line//:/\\:}") ;;
        esac
    done < <("${(Q)words[1]}" __complete "${(@)words[2,CURRENT]}" 2>/dev/null)
    if [[ $directive == :0 ]]; then
        compset -P '*='
        _files
    else
        _describe simctl candidates
    fi
}
if [[ $funcstack[1] == _simctl ]]; then
    _simctl "$@"
else
    compdef _simctl simctl
fi
