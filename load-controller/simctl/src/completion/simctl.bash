# bash completion of simctl. simctl itself says which words fit, so that this file serves every version.
_simctl() {
    local line=${COMP_LINE:0:COMP_POINT} words=() current kept
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    current=${words[${#words[@]} - 1]}
    # bash completes only what follows the last `=` or `:` of a word.
    kept=${current%"${current##*[=:]}"}
    COMPREPLY=()
    while IFS=$'\t' read -r line _; do
        case $line in
            :0) compopt -o default 2>/dev/null ;;
            :*) ;;
            *) COMPREPLY+=("${line#"$kept"}") ;;
        esac
    done < <("${words[0]}" __complete "${words[@]:1}" 2>/dev/null)
}
complete -F _simctl simctl
